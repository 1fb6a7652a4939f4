-- Leases: registered, renewed, ended.

-- A new lease; one of the same name that is still there is joined, and whoever has it is overtaken. One row for
-- each queue, in order.
CREATE FUNCTION {s}register(
    p_key bytea, p_name bytea, p_ttl float8, p_queue_keys bytea[], p_queue_names bytea[]
) RETURNS TABLE (o_lease bigint, o_turn bigint, o_queue int) LANGUAGE plpgsql AS $$
DECLARE
    v_queues int[];
    v_lease bigint;
    v_turn bigint;
    v_expires timestamptz;
BEGIN
    SELECT array_agg({s}queue_number(k.key, k.name) ORDER BY k.place) INTO v_queues
    FROM unnest(p_queue_keys, p_queue_names) WITH ORDINALITY AS k(key, name, place);
    v_expires := clock_timestamp() + p_ttl * interval '1 second';
    INSERT INTO {s}lease AS l (key, name, expires) VALUES (p_key, p_name, v_expires)
    ON CONFLICT (key) DO UPDATE SET turn = ((l.turn >> 40) + 1) << 40, expires = excluded.expires
    RETURNING l.id, l.turn INTO v_lease, v_turn;
    INSERT INTO {s}serving (queue, lease) SELECT DISTINCT u, v_lease FROM unnest(v_queues) AS u
    ON CONFLICT DO NOTHING;
    INSERT INTO {s}idle (queue, lease, asleep) SELECT DISTINCT u, v_lease, false FROM unnest(v_queues) AS u
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT v_lease, v_turn, u FROM unnest(v_queues) AS u;
END $$;

-- Everything that a lease holds, in the order in which it was taken.
CREATE FUNCTION {s}held(p_lease bigint)
RETURNS TABLE (tag bigint, claim bigint, queue int, message bigint, crashes int) LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT c.id * 4096 + u.place - 1, c.id, m.queue, m.id, m.crashes
    FROM {s}claim AS c CROSS JOIN unnest(c.messages) WITH ORDINALITY AS u(id, place)
    JOIN {s}message AS m ON m.id = u.id
    WHERE c.lease = p_lease ORDER BY c.id, u.place
$$;

-- What a consumer asks after an exchange whose answer was lost. It waits until that one is done or undone, and
-- makes one that is still on its way come too late. No row: the lease is gone.
CREATE FUNCTION {s}recover(p_lease bigint, p_turn bigint)
RETURNS TABLE (tag bigint, claim bigint, queue int, message bigint, crashes int) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {s}lease AS l SET turn = p_turn WHERE l.id = p_lease AND l.turn < p_turn;
    IF FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0, 0::bigint, 0;
        RETURN QUERY SELECT * FROM {s}held(p_lease);
    END IF;
END $$;

-- Renews; the names that are gone. One that is just in an exchange is renewed by that.
CREATE FUNCTION {s}beat(p_keys bytea[], p_ttl float8) RETURNS SETOF bytea LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    UPDATE {s}lease AS l SET expires = clock_timestamp() + p_ttl * interval '1 second'
    FROM (SELECT id FROM {s}lease WHERE key = ANY (p_keys) FOR NO KEY UPDATE SKIP LOCKED) AS f
    WHERE l.id = f.id;
    RETURN QUERY SELECT u FROM unnest(p_keys) AS u WHERE NOT EXISTS (SELECT FROM {s}lease WHERE key = u);
END $$;

-- Ends a lease; how many messages went back. Deliveries with tags in p_done are settled; those in p_crashed, or
-- all with p_all, count one crash more.
CREATE FUNCTION {s}end_lease(p_lease bigint, p_done bigint[], p_crashed bigint[], p_all boolean)
RETURNS bigint LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_all bigint[];
    v_done bigint[];
    v_guilty bigint[];
    v_back bigint[];
BEGIN
    PERFORM FROM {s}lease WHERE id = p_lease FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT
        array_agg(h.message), array_agg(h.message) FILTER (WHERE h.tag = ANY (p_done)),
        array_agg(h.message) FILTER (WHERE p_all OR h.tag = ANY (p_crashed)),
        array_agg(h.message) FILTER (WHERE NOT h.tag = ANY (p_done))
    INTO v_all, v_done, v_guilty, v_back
    FROM {s}held(p_lease) AS h;
    DELETE FROM {s}message WHERE id = ANY (v_done);
    UPDATE {s}message SET crashes = crashes + 1 WHERE id = ANY (v_guilty);
    DELETE FROM {s}trial WHERE message = ANY (v_all);
    DELETE FROM {s}claim WHERE lease = p_lease;
    DELETE FROM {s}idle WHERE lease = p_lease
    AND queue IN (SELECT queue FROM {s}serving WHERE lease = p_lease);
    DELETE FROM {s}serving WHERE lease = p_lease;
    DELETE FROM {s}lease WHERE id = p_lease;
    PERFORM {s}put_back(v_back);
    RETURN coalesce(cardinality(v_back), 0);
END $$;

CREATE FUNCTION {s}release(p_key bytea, p_done bigint[], p_crashed bigint[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum({s}end_lease(id, p_done, p_crashed, false)), 0)::bigint FROM {s}lease WHERE key = p_key
$$;

-- The leases of these queues that have lapsed.
CREATE FUNCTION {s}lapsed(p_queue_keys bytea[]) RETURNS SETOF bigint LANGUAGE sql VOLATILE AS $$
    SELECT l.id FROM {s}lease AS l
    WHERE l.expires <= clock_timestamp() AND l.id IN (
        SELECT s.lease FROM {s}serving AS s JOIN {s}queue AS q ON q.id = s.queue WHERE q.key = ANY (p_queue_keys)
    )
$$;

-- Ends them; how many messages went back. Nobody is judged when that takes longer than p_patience seconds.
CREATE FUNCTION {s}sweep(p_queue_keys bytea[], p_patience float8) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_begun timestamptz := clock_timestamp();
    v_lease bigint;
    v_total bigint := 0;
BEGIN
    FOR v_lease IN SELECT {s}lapsed(p_queue_keys) LOOP
        PERFORM FROM {s}lease WHERE id = v_lease AND expires <= clock_timestamp() FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;  -- alive after all, or in an exchange, or another one ends it
        EXIT WHEN clock_timestamp() > v_begun + p_patience * interval '1 second';
        v_total := v_total + {s}end_lease(v_lease, '{}', '{}', true);
    END LOOP;
    RETURN v_total;
END $$;

-- Forgets what is of no use any more: who has not published for long cannot be repeating himself.
CREATE FUNCTION {s}tidy() RETURNS void LANGUAGE sql AS $$
    DELETE FROM {s}producer WHERE at < clock_timestamp() - interval '15 minutes';
    DELETE FROM {s}revoked WHERE until <= clock_timestamp();
$$;

-- Dead letters back into their line; how many there were.
CREATE FUNCTION {s}revive(p_key bytea, p_ids bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_messages bigint[];
BEGIN
    WITH risen AS (
        DELETE FROM {s}dead WHERE queue = (SELECT id FROM {s}queue WHERE key = p_key) AND id = ANY (p_ids)
        RETURNING id, queue, priority, raw
    ), stored AS (
        INSERT INTO {s}message (since, queue, priority, raw)
        SELECT clock_timestamp(), queue, priority, raw FROM (SELECT * FROM risen ORDER BY id) AS r
        RETURNING id
    )
    SELECT array_agg(id) INTO v_messages FROM stored;
    PERFORM {s}put_back(v_messages);
    RETURN coalesce(cardinality(v_messages), 0);
END $$;
