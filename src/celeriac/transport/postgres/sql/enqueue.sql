-- Messages into their lines. Names of channels begin with {c}.

CREATE FUNCTION {s}queue_number(p_key bytea, p_name bytea) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_id int;
BEGIN
    SELECT id INTO v_id FROM {s}queue WHERE key = p_key;
    IF v_id IS NULL THEN
        INSERT INTO {s}queue (key, name) VALUES (p_key, p_name) ON CONFLICT DO NOTHING RETURNING id INTO v_id;
    END IF;
    IF v_id IS NULL THEN  -- somebody else was first
        SELECT id INTO v_id FROM {s}queue WHERE key = p_key;
    END IF;
    RETURN v_id;
END $$;

-- Wakes up to p_count (NULL: all) of those who sleep for p_queue. They count as awake from now on, so that a
-- burst of publishers tells them once: NOTIFY lets one commit at a time pass.
CREATE FUNCTION {s}rouse(p_queue int, p_count bigint) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_lease bigint;
BEGIN
    FOR v_lease IN
        UPDATE {s}idle AS i SET asleep = false
        FROM (
            SELECT lease FROM {s}idle WHERE queue = p_queue AND asleep
            LIMIT p_count FOR UPDATE SKIP LOCKED
        ) AS f
        WHERE i.queue = p_queue AND i.lease = f.lease
        RETURNING i.lease
    LOOP
        PERFORM pg_notify('{c}lease' || v_lease, '');
    END LOOP;
END $$;

-- False when this publish of the producer's has been stored before.
CREATE FUNCTION {s}is_new(p_producer bytea, p_turn bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_producer IS NULL THEN
        RETURN true;
    END IF;
    UPDATE {s}producer SET turn = p_turn, at = clock_timestamp() WHERE name = p_producer AND turn < p_turn;
    IF FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO {s}producer (name, turn, at) VALUES (p_producer, p_turn, clock_timestamp())
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

-- Messages for one queue, ready at once.
CREATE FUNCTION {s}publish(
    p_producer bytea, p_turn bigint, p_key bytea, p_name bytea, p_priority bigint, p_raws bytea[]
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_queue int;
    v_now timestamptz;
BEGIN
    IF NOT {s}is_new(p_producer, p_turn) THEN
        RETURN false;
    END IF;
    SELECT id INTO v_queue FROM {s}queue WHERE key = p_key;
    IF v_queue IS NULL THEN
        v_queue := {s}queue_number(p_key, p_name);
    END IF;
    v_now := clock_timestamp();
    WITH stored AS (
        INSERT INTO {s}message (since, queue, priority, raw)
        SELECT v_now, v_queue, p_priority, u FROM unnest(p_raws) AS u
        RETURNING id
    )
    INSERT INTO {s}line (queue, rank, since, id)
    SELECT v_queue, greatest(p_priority, 0), v_now, id FROM stored;
    PERFORM 1 FROM {s}idle WHERE queue = v_queue AND asleep;
    IF FOUND THEN
        PERFORM {s}rouse(v_queue, cardinality(p_raws));
    END IF;
    RETURN true;
END $$;

-- Messages for any queues and times. p_which: place in p_keys, from 1. p_delays: seconds from now; p_dues: epoch
-- seconds; NULL in both: ready at once. p_how: 0 wakes sleepers; 1 belongs to a transaction of the caller's, which
-- may last, so it locks nothing of the sleepers' and tells all who listen for the queue at its commit.
CREATE FUNCTION {s}enqueue(
    p_how int, p_keys bytea[], p_names bytea[], p_which bigint[], p_priorities bigint[], p_delays float8[],
    p_dues float8[], p_raws bytea[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_now timestamptz;
    v_queues int[];
    v_queue int;
    v_ready bigint;
    v_first timestamptz;
BEGIN
    SELECT array_agg({s}queue_number(k.key, k.name) ORDER BY k.place) INTO v_queues
    FROM unnest(p_keys, p_names) WITH ORDINALITY AS k(key, name, place);
    v_now := clock_timestamp();
    FOR v_queue, v_ready, v_first IN
        WITH stored AS (
            INSERT INTO {s}message (since, queue, priority, raw)
            SELECT
                greatest(v_now, coalesce(to_timestamp(u.due), v_now + u.delay * interval '1 second', v_now)),
                v_queues[u.which], u.priority, u.raw
            FROM unnest(p_which, p_priorities, p_delays, p_dues, p_raws) WITH ORDINALITY
                AS u(which, priority, delay, due, raw, place)
            ORDER BY u.due NULLS FIRST, u.place  -- those that are due already come in the order of their times
            RETURNING id, queue, priority, since
        ), lined AS (
            INSERT INTO {s}line (queue, rank, since, id)
            SELECT queue, greatest(priority, 0), since, id FROM stored
            RETURNING queue, since
        )
        SELECT queue, count(*) FILTER (WHERE since <= v_now), min(since) FILTER (WHERE since > v_now)
        FROM lined GROUP BY queue
    LOOP
        IF p_how = 1 THEN
            PERFORM pg_notify('{c}queue' || v_queue, '');
        ELSIF v_first < v_now + interval '1500 milliseconds' THEN
            PERFORM {s}rouse(v_queue, NULL);  -- sooner than they look by themselves: all must hear of it
        ELSIF v_ready > 0 THEN
            PERFORM {s}rouse(v_queue, v_ready);
        END IF;
    END LOOP;
END $$;

-- enqueue, numbered by its producer; false when it has been stored before.
CREATE FUNCTION {s}publish_all(
    p_producer bytea, p_turn bigint, p_keys bytea[], p_names bytea[], p_which bigint[], p_priorities bigint[],
    p_delays float8[], p_dues float8[], p_raws bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT {s}is_new(p_producer, p_turn) THEN
        RETURN false;
    END IF;
    PERFORM {s}enqueue(0, p_keys, p_names, p_which, p_priorities, p_delays, p_dues, p_raws);
    RETURN true;
END $$;

-- Messages that were taken return to their old place in line; those who sleep are told.
CREATE FUNCTION {s}put_back(p_messages bigint[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_queue int;
    v_count bigint;
BEGIN
    FOR v_queue, v_count IN
        WITH lined AS (
            INSERT INTO {s}line (queue, rank, since, id)
            SELECT queue, CASE WHEN crashes > 0 THEN -1 ELSE greatest(priority, 0) END, since, id
            FROM {s}message WHERE id = ANY (p_messages)
            RETURNING queue
        )
        SELECT queue, count(*) FROM lined GROUP BY queue
    LOOP
        PERFORM {s}rouse(v_queue, v_count);
    END LOOP;
END $$;
