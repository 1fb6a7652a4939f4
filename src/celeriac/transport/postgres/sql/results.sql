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

-- Processes that wait for results; each listens on a channel of its own and renews its row while it does.
CREATE UNLOGGED TABLE {s}watcher (
    channel text PRIMARY KEY,
    expires timestamptz NOT NULL
);

-- Stores documents (the last of several of one key counts) and tells those who wait, by the beginnings of the
-- keys' digests (`results.mark`); a notification holds 8000 bytes. Nobody is told when nobody waits: commits that
-- notify go one after the other. Also called by the broker's exchange, inside its transaction.
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

    IF EXISTS (SELECT FROM {s}watcher WHERE expires > v_now) THEN
        PERFORM pg_notify(w.channel, p.payload)
        FROM {s}watcher w, (
            SELECT string_agg(substr(encode(sha256(u.key), 'hex'), 1, 12), ' ') AS payload
            FROM unnest(p_keys) WITH ORDINALITY AS u(key, place) GROUP BY u.place / 500
        ) p
        WHERE w.expires > v_now;
    END IF;
END $$;
