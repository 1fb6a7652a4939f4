-- One exchange: settle, then take, in one transaction. What is NULL is not there.
--
-- Rows of the answer, by `queue`:
--   -1  the lease is gone, or a later exchange or a deputy has overtaken this one: nothing was done
--    0  raw: now,claim,due,asleep  (microseconds since the epoch; due empty: nothing is delayed)
--    n  place >= 0: a delivery; place -1: a full look at the front of the queue took long: id is its `since` in
--       microseconds, crashes its rank, raw the microseconds that the look took

-- Seconds since the epoch times a million.
CREATE FUNCTION {s}micros(p_at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT (extract(epoch FROM p_at) * 1000000)::bigint $$;

-- Notes that the lease sleeps; false when somebody is about to wake it, or it has to be asked again.
CREATE FUNCTION {s}lie_down(p_lease bigint, p_queues bigint[]) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_count bigint;
BEGIN
    UPDATE {s}idle AS i SET asleep = true
    FROM (
        SELECT f.queue FROM {s}idle AS f
        WHERE f.queue = ANY (p_queues) AND f.lease = p_lease FOR UPDATE SKIP LOCKED
    ) AS f
    WHERE i.queue = f.queue AND i.lease = p_lease;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < cardinality(p_queues) THEN  -- the server crashed, and they are gone
        INSERT INTO {s}idle (queue, lease, asleep) SELECT u, p_lease, false FROM unnest(p_queues) AS u
        WHERE EXISTS (SELECT FROM {s}lease WHERE id = p_lease)
        ON CONFLICT DO NOTHING;
        RETURN false;
    END IF;
    RETURN true;
END $$;

-- Before and during a sleep: is there something? `due`: microseconds since the epoch, NULL: nothing is delayed.
-- p_ranks and p_sinces as in exchange, but no full look.
CREATE FUNCTION {s}peek(
    p_queues bigint[], p_ranks bigint[], p_sinces bigint[], OUT ready boolean, OUT now bigint, OUT due bigint
) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_due timestamptz;
    v_since timestamptz;
    v_queue int;
    v_rank int;
    v_hint int;
    v_from timestamptz;
BEGIN
    ready := false;
    now := {s}micros(v_now);
    FOR v_at IN 1 .. cardinality(p_queues) LOOP
        v_queue := p_queues[v_at];
        v_hint := p_ranks[v_at];
        PERFORM FROM {s}line AS l WHERE l.queue = v_queue AND l.rank = -1;
        IF FOUND THEN
            SELECT t.until INTO v_since FROM {s}trial AS t WHERE t.queue = v_queue;
            IF v_since > v_now THEN
                v_due := least(v_due, v_since);
            ELSE
                ready := true;
            END IF;
        END IF;
        v_rank := -1;
        LOOP
            IF v_rank < v_hint THEN
                SELECT l.rank INTO v_rank FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank > v_rank AND l.rank < v_hint
                ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
                v_rank := coalesce(v_rank, v_hint);
            ELSE
                SELECT l.rank INTO v_rank FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank > v_rank
                ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
                EXIT WHEN v_rank IS NULL;
            END IF;
            v_from := '-infinity';
            IF v_rank = v_hint THEN
                v_from := timestamptz 'epoch' + p_sinces[v_at] * interval '1 microsecond';
            END IF;
            SELECT l.since INTO v_since FROM {s}line AS l
            WHERE l.queue = v_queue AND l.rank = v_rank AND l.since >= v_from
            ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
            IF v_since <= v_now THEN
                ready := true;
            ELSE
                v_due := least(v_due, v_since);
            END IF;
        END LOOP;
    END LOOP;
    due := {s}micros(v_due);
END $$;

CREATE FUNCTION {s}exchange(
    p_lease bigint, p_turn bigint, p_ttl float8,
    p_gone bigint[],                                     -- messages that are settled
    p_used bigint[],                                     -- claims of which nothing is left
    p_back bigint[],                                     -- messages that go back, and
    p_struck bigint[], p_places bigint[],                -- the claims and places where they were
    p_buried bigint[], p_reasons bytea[],                -- messages that become dead letters
    p_tried bigint[],                                    -- messages that were in quarantine
    p_result_keys bytea[], p_documents bytea[], p_ttls float8[],
    p_keys bytea[], p_names bytea[], p_which bigint[], p_priorities bigint[], p_delays float8[],
    p_dues float8[], p_raws bytea[],                     -- follow-ups, as in enqueue
    p_stray_keys bytea[], p_stray_names bytea[],         -- follow-ups that no queue takes: dead letters
    p_stray_reasons bytea[], p_strays bytea[],
    p_queues bigint[],                                   -- in the order of service
    p_ranks bigint[], p_sinces bigint[],                 -- where to begin in each; rank -2: have a full look
    p_limit bigint, p_quarantine float8,
    p_up boolean, p_sleepy boolean                       -- was asleep; wants to be when there is nothing
) RETURNS TABLE (queue int, place int, id bigint, crashes int, raw bytea) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_begun timestamptz;
    v_at int;
    v_queue int;
    v_rank int;
    v_hint int;
    v_hint_since timestamptz;
    v_from timestamptz;
    v_since timestamptz;
    v_id bigint;
    v_room bigint := p_limit;
    v_share bigint;
    v_count bigint;
    v_cap bigint;
    v_consumers bigint;
    v_messages bigint[] := '{}';
    v_ids bigint[];
    v_ranks int[];
    v_claim bigint := 0;
    v_due timestamptz;
    v_asleep boolean := false;
BEGIN
    UPDATE {s}lease AS l
    SET turn = p_turn, expires = greatest(l.expires, v_now + p_ttl * interval '1 second')
    WHERE l.id = p_lease AND l.turn < p_turn;
    IF NOT FOUND THEN
        RETURN QUERY SELECT -1, 0, 0::bigint, 0, convert_to({s}micros(v_now)::text, 'UTF8');
        RETURN;
    END IF;
    IF p_up THEN
        UPDATE {s}idle AS i SET asleep = false
        FROM (
            SELECT f.queue FROM {s}idle AS f
            WHERE f.queue = ANY (p_queues) AND f.lease = p_lease AND f.asleep FOR UPDATE SKIP LOCKED
        ) AS f
        WHERE i.queue = f.queue AND i.lease = p_lease;
    END IF;

    -- Settling. The caller knows what the lease holds, nobody else can settle it, and the lease is locked.
    IF p_buried IS NOT NULL THEN
        INSERT INTO {s}dead (at, queue, priority, crashes, reason, raw)
        SELECT v_now, m.queue, m.priority, m.crashes, u.reason, m.raw
        FROM unnest(p_buried, p_reasons) WITH ORDINALITY AS u(id, reason, place)
        JOIN {s}message AS m ON m.id = u.id ORDER BY u.place;
        DELETE FROM {s}message AS m WHERE m.id = ANY (p_buried);
    END IF;
    IF p_gone IS NOT NULL THEN
        DELETE FROM {s}message AS m WHERE m.id = ANY (p_gone);
    END IF;
    IF p_used IS NOT NULL THEN
        DELETE FROM {s}claim AS c WHERE c.id = ANY (p_used) AND c.lease = p_lease;
    END IF;
    IF p_tried IS NOT NULL THEN
        DELETE FROM {s}trial AS t WHERE t.message = ANY (p_tried);
    END IF;
    IF p_back IS NOT NULL THEN
        FOR v_at IN 1 .. cardinality(p_struck) LOOP
            UPDATE {s}claim AS c SET messages[p_places[v_at] + 1] = 0 WHERE c.id = p_struck[v_at];
        END LOOP;
        PERFORM {s}put_back(p_back);
    END IF;
    IF p_result_keys IS NOT NULL THEN
        PERFORM {s}store(p_result_keys, p_documents, p_ttls);
    END IF;
    IF p_raws IS NOT NULL THEN
        PERFORM {s}enqueue(0, p_keys, p_names, p_which, p_priorities, p_delays, p_dues, p_raws);
    END IF;

    IF p_strays IS NOT NULL THEN
        INSERT INTO {s}dead (at, queue, priority, crashes, reason, raw)
        SELECT v_now, {s}queue_number(u.key, u.name), 0, 0, u.reason, u.raw
        FROM unnest(p_stray_keys, p_stray_names, p_stray_reasons, p_strays) AS u(key, name, reason, raw);
    END IF;

    v_now := clock_timestamp();
    -- A message that has crashed a process: alone, and none else of its queue for a while.
    FOR v_at IN 1 .. cardinality(p_queues) LOOP
        EXIT WHEN p_limit <= 0;
        v_queue := p_queues[v_at];
        SELECT l.since, l.id INTO v_since, v_id FROM {s}line AS l
        WHERE l.queue = v_queue AND l.rank = -1
        ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            INSERT INTO {s}trial AS t (queue, message, until)
            VALUES (v_queue, v_id, v_now + p_quarantine * interval '1 second')
            ON CONFLICT (queue) DO UPDATE SET message = excluded.message, until = excluded.until
            WHERE t.until <= v_now;
            IF FOUND THEN
                DELETE FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank = -1 AND l.since = v_since AND l.id = v_id;
                INSERT INTO {s}claim AS c (lease, messages) VALUES (p_lease, ARRAY[v_id]) RETURNING c.id INTO
                v_claim;
                RETURN QUERY SELECT m.queue, 0, m.id, m.crashes, m.raw FROM {s}message AS m WHERE m.id = v_id;
                RETURN QUERY SELECT 0, 0, 0::bigint, 0, convert_to(
                    concat_ws(',', {s}micros(v_now), v_claim, {s}micros(v_now), 0), 'UTF8');
                RETURN;
            END IF;
            SELECT t.until INTO v_since FROM {s}trial AS t WHERE t.queue = v_queue;
            v_due := least(v_due, v_since);
        END IF;
    END LOOP;

    FOR v_at IN 1 .. cardinality(p_queues) LOOP
        EXIT WHEN v_room <= 0 AND p_limit > 0;
        v_queue := p_queues[v_at];
        v_hint := p_ranks[v_at];
        IF v_hint = -2 THEN  -- what was taken stays in the index until a vacuum: this passes all of it
            v_begun := clock_timestamp();
            SELECT l.rank, l.since INTO v_hint, v_hint_since FROM {s}line AS l
            WHERE l.queue = v_queue AND l.rank > -1 ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
            IF NOT FOUND THEN
                CONTINUE;
            END IF;
            IF clock_timestamp() > v_begun + interval '400 microseconds' THEN
                RETURN QUERY SELECT v_queue, -1, {s}micros(v_hint_since), v_hint, convert_to(
                    ({s}micros(clock_timestamp()) - {s}micros(v_begun))::text, 'UTF8');
            END IF;
        ELSE
            v_hint_since := timestamptz 'epoch' + p_sinces[v_at] * interval '1 microsecond';
        END IF;

        -- The ranks that there are. An index skip by hand; what the hint says need not be looked for.
        v_ranks := CASE WHEN p_ranks[v_at] = -2 THEN ARRAY[v_hint] ELSE '{}' END;
        v_rank := CASE WHEN p_ranks[v_at] = -2 THEN v_hint ELSE -1 END;
        LOOP
            IF v_rank < v_hint THEN
                SELECT l.rank INTO v_rank FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank > v_rank AND l.rank < v_hint
                ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
                v_rank := coalesce(v_rank, v_hint);
            ELSE
                SELECT l.rank INTO v_rank FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank > v_rank
                ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
                EXIT WHEN v_rank IS NULL;
            END IF;
            v_ranks := v_ranks || v_rank;
        END LOOP;

        IF v_room > 0 THEN
            v_share := v_room;
            SELECT count(*) INTO v_consumers FROM {s}serving AS s WHERE s.queue = v_queue;
            IF v_consumers > 1 THEN  -- the others want their share; where there is plenty, it does not matter
                v_cap := least(v_room * v_consumers, 5000);
                v_count := 0;
                FOREACH v_rank IN ARRAY v_ranks LOOP
                    v_from := CASE WHEN v_rank = v_hint THEN v_hint_since ELSE '-infinity' END;
                    SELECT v_count + count(*) INTO v_count FROM (
                        SELECT 1 FROM {s}line AS l
                        WHERE l.queue = v_queue AND l.rank = v_rank AND l.since >= v_from AND l.since <= v_now
                        LIMIT v_cap - v_count
                    ) AS x;
                    EXIT WHEN v_count >= v_cap;
                END LOOP;
                v_share := (v_count + v_consumers - 1) / v_consumers;
                IF v_count >= 5000 THEN
                    v_share := greatest(v_share, 100);
                END IF;
                v_share := least(v_share, v_room);
            END IF;
            FOREACH v_rank IN ARRAY v_ranks LOOP
                EXIT WHEN v_share <= 0;
                v_from := CASE WHEN v_rank = v_hint THEN v_hint_since ELSE '-infinity' END;
                WITH cut AS (
                    DELETE FROM {s}line AS l WHERE l.ctid = ANY (ARRAY(
                        SELECT f.ctid FROM {s}line AS f
                        WHERE f.queue = v_queue AND f.rank = v_rank AND f.since >= v_from AND f.since <= v_now
                        ORDER BY f.queue, f.rank, f.since, f.id LIMIT v_share FOR UPDATE SKIP LOCKED
                    )) RETURNING l.since, l.id
                )
                SELECT array_agg(cut.id ORDER BY cut.since, cut.id) INTO v_ids FROM cut;
                IF v_ids IS NOT NULL THEN
                    RETURN QUERY
                    SELECT v_queue, cardinality(v_messages) + u.place::int - 1, m.id, m.crashes, m.raw
                    FROM unnest(v_ids) WITH ORDINALITY AS u(id, place) JOIN {s}message AS m ON m.id = u.id;
                    v_messages := v_messages || v_ids;
                    v_room := v_room - cardinality(v_ids);
                    v_share := v_share - cardinality(v_ids);
                END IF;
            END LOOP;
        END IF;
        IF v_room > 0 OR p_limit <= 0 THEN
            FOREACH v_rank IN ARRAY v_ranks LOOP
                SELECT l.since INTO v_since FROM {s}line AS l
                WHERE l.queue = v_queue AND l.rank = v_rank AND l.since > v_now
                ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1;
                v_due := least(v_due, v_since);
            END LOOP;
        END IF;
    END LOOP;
    IF cardinality(v_messages) > 0 THEN
        INSERT INTO {s}claim AS c (lease, messages) VALUES (p_lease, v_messages) RETURNING c.id INTO v_claim;
    ELSE
        IF p_sleepy THEN  -- at once: who found nothing is about to wait
            v_asleep := {s}lie_down(p_lease, p_queues);
        END IF;
        IF coalesce(p_gone, p_used, p_back, p_buried, p_tried) IS NULL AND p_result_keys IS NULL
            AND p_raws IS NULL
        THEN
            PERFORM set_config('synchronous_commit', 'off', true);  -- nothing worth waiting for the disk
        END IF;
    END IF;
    RETURN QUERY SELECT 0, 0, 0::bigint, 0, convert_to(concat_ws(',', {s}micros(v_now), v_claim,
        coalesce({s}micros(v_due)::text, ''), v_asleep::int), 'UTF8');
END $$;
