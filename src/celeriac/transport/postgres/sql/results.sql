-- Result documents. A key is the task id's name_key (transport/postgres/values.py).
CREATE TABLE {s}result (
    key bytea PRIMARY KEY,
    expires timestamptz,
    document bytea NOT NULL
) WITH (fillfactor = 70);
ALTER TABLE {s}result ALTER COLUMN document SET STORAGE EXTERNAL;
CREATE INDEX ON {s}result (expires) WHERE expires IS NOT NULL;

CREATE TABLE {s}saved_group (
    key bytea PRIMARY KEY,
    expires timestamptz,
    document bytea NOT NULL
);

-- Processes that wait for results; each listens on a channel of its own.
CREATE UNLOGGED TABLE {s}watcher (
    channel text PRIMARY KEY,
    expires timestamptz NOT NULL
);

-- Stores documents (the last of several of one key counts) and tells those who wait. Also called by the
-- broker's exchange, inside its transaction.
CREATE FUNCTION {s}store(p_keys bytea[], p_documents bytea[], p_ttls float8[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    INSERT INTO {s}result AS r (key, expires, document)
    SELECT DISTINCT ON (u.key) u.key, v_now + u.ttl * interval '1 second', u.document
    FROM unnest(p_keys, p_documents, p_ttls) WITH ORDINALITY AS u(key, document, ttl, place)
    ORDER BY u.key, u.place DESC
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, document = excluded.document;
END $$;
