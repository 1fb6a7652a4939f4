-- Chords that were sent and are not forgotten. Keys are name_keys (transport/postgres/values.py).
CREATE TABLE {s}chord (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    expires timestamptz,
    size bigint NOT NULL,          -- 0 while the header is still being streamed
    grown bigint NOT NULL DEFAULT 0,
    arrived bigint NOT NULL DEFAULT 0,
    closer bytea,                  -- the member that completed it
    closed boolean NOT NULL DEFAULT false,  -- its body was sent; only the closer is remembered
    body bytea
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON {s}chord (expires) WHERE expires IS NOT NULL;

-- Members that have arrived.
CREATE TABLE {s}chord_part (
    chord bigint NOT NULL,
    task bytea NOT NULL,
    position bigint NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    payload bytea NOT NULL,
    PRIMARY KEY (chord, task)
);

-- Members that a chord has grown by after it was sent.
CREATE TABLE {s}chord_extra (
    chord bigint NOT NULL,
    task bytea NOT NULL,
    PRIMARY KEY (chord, task)
);

CREATE FUNCTION {s}chord_forget(p_chords bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}chord_part WHERE chord = ANY(p_chords);
    DELETE FROM {s}chord_extra WHERE chord = ANY(p_chords);
    DELETE FROM {s}chord WHERE id = ANY(p_chords);
END $$;

-- The row of a chord, locked until the transaction ends; made when it is not there and `p_make`.
CREATE FUNCTION {s}chord_lock(p_key bytea, p_make boolean) RETURNS {s}chord
LANGUAGE plpgsql AS $$
DECLARE
    v_chord {s}chord;
BEGIN
    LOOP
        SELECT * INTO v_chord FROM {s}chord WHERE key = p_key FOR UPDATE;
        IF FOUND AND v_chord.expires <= clock_timestamp() THEN
            PERFORM {s}chord_forget(ARRAY[v_chord.id]);
            v_chord := NULL;
        END IF;
        IF v_chord.id IS NOT NULL OR NOT p_make THEN
            RETURN v_chord;
        END IF;
        INSERT INTO {s}chord (key, size) VALUES (p_key, 0) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

CREATE FUNCTION {s}chord_open(p_keys bytea[], p_sizes bigint[], p_bodies bytea[], p_ttls float8[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_call record;
    v_chord {s}chord;
BEGIN
    FOR v_call IN SELECT * FROM unnest(p_keys, p_sizes, p_bodies, p_ttls) AS u(key, size, body, ttl) ORDER BY key
    LOOP
        v_chord := {s}chord_lock(v_call.key, true);
        UPDATE {s}chord SET
            size = CASE WHEN size = 0 THEN v_call.size ELSE size END,
            body = coalesce(body, v_call.body),
            expires = clock_timestamp() + v_call.ttl * interval '1 second'
        WHERE id = v_chord.id AND closer IS NULL;
    END LOOP;
END $$;

CREATE FUNCTION {s}chord_grow(p_key bytea, p_ids bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_chord {s}chord := {s}chord_lock(p_key, false);
    v_new bigint;
BEGIN
    IF v_chord.id IS NOT NULL AND v_chord.closer IS NULL THEN
        INSERT INTO {s}chord_extra (chord, task)
        SELECT DISTINCT v_chord.id, u.id FROM unnest(p_ids) AS u(id) ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_new = ROW_COUNT;
        UPDATE {s}chord SET grown = grown + v_new WHERE id = v_chord.id;
    END IF;
END $$;

-- Records members; the closer of each of their chords, if there is one. Chords are taken in one order, so that
-- two calls wait for each other and not in a circle.
CREATE FUNCTION {s}chord_arrive(
    p_chords bytea[], p_ids bytea[], p_positions bigint[], p_payloads bytea[], p_sizes bigint[],
    p_ttls float8[], p_extras bigint[]
) RETURNS TABLE (o_chord bytea, o_closer bytea)
LANGUAGE plpgsql AS $$
DECLARE
    v_call record;
    v_chord {s}chord;
    v_new bigint;
    v_last bytea;
BEGIN
    FOR v_call IN
        SELECT u.chord, max(u.size) AS size, max(u.ttl) AS ttl,
            array_agg(u.id ORDER BY u.place) AS ids, array_agg(u.position ORDER BY u.place) AS positions,
            array_agg(u.payload ORDER BY u.place) AS payloads,
            array_agg(u.id) FILTER (WHERE u.extra = 1) AS extras
        FROM unnest(p_chords, p_ids, p_positions, p_payloads, p_sizes, p_ttls, p_extras)
            WITH ORDINALITY AS u(chord, id, position, payload, size, ttl, extra, place)
        GROUP BY u.chord ORDER BY u.chord
    LOOP
        o_chord := v_call.chord;
        o_closer := NULL;
        v_chord := {s}chord_lock(v_call.chord, v_call.size > 0);
        IF v_chord.id IS NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF v_chord.closer IS NULL THEN
            IF v_call.extras IS NOT NULL THEN
                PERFORM {s}chord_grow(v_call.chord, v_call.extras);
                SELECT * INTO v_chord FROM {s}chord WHERE id = v_chord.id;
            END IF;
            IF v_chord.size = 0 AND v_chord.arrived = 0 AND v_call.size > 0 THEN
                v_chord.size := v_call.size;
            END IF;
            WITH came AS (
                SELECT DISTINCT ON (u.id) u.id, u.position, u.payload, u.place
                FROM unnest(v_call.ids, v_call.positions, v_call.payloads)
                    WITH ORDINALITY AS u(id, position, payload, place)
                ORDER BY u.id, u.place
            ), new AS (
                INSERT INTO {s}chord_part (chord, task, position, payload)
                SELECT v_chord.id, came.id, came.position, came.payload FROM came ORDER BY came.place
                ON CONFLICT DO NOTHING RETURNING task
            )
            SELECT count(*), (array_agg(came.id ORDER BY came.place DESC))[1] INTO v_new, v_last
            FROM new JOIN came ON came.id = new.task;
            IF v_new > 0 AND v_chord.size > 0
                AND v_chord.arrived + v_new >= v_chord.size + v_chord.grown THEN
                v_chord.closer := v_last;
            END IF;
            UPDATE {s}chord SET
                arrived = arrived + v_new, size = v_chord.size, closer = v_chord.closer,
                expires = clock_timestamp() + v_call.ttl * interval '1 second'
            WHERE id = v_chord.id;
        END IF;
        o_closer := v_chord.closer;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION {s}chord_close(p_key bytea) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_chord {s}chord := {s}chord_lock(p_key, false);
BEGIN
    IF v_chord.id IS NOT NULL THEN
        DELETE FROM {s}chord_part WHERE chord = v_chord.id;
        DELETE FROM {s}chord_extra WHERE chord = v_chord.id;
        UPDATE {s}chord SET
            closed = true, body = NULL, expires = coalesce(expires, clock_timestamp() + interval '1 day')
        WHERE id = v_chord.id;
    END IF;
END $$;

CREATE FUNCTION {s}chord_expire(p_limit bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_gone bigint[];
BEGIN
    v_gone := ARRAY(
        SELECT id FROM {s}chord WHERE expires <= clock_timestamp() LIMIT p_limit FOR UPDATE SKIP LOCKED
    );
    PERFORM {s}chord_forget(v_gone);
    RETURN coalesce(cardinality(v_gone), 0);
END $$;
