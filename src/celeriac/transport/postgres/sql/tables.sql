-- The tables of the broker, version 1. Times are the server's own.
--
-- How a message moves (each arrow one transaction; `message` is written once and deleted once, because
-- rewriting its payload at every step is what costs; measured in docs/decisions/0013):
--
--     message + line ──▶ message + a place in claim.messages ──▶ deleted, or `dead`, or `line` again
--
-- A claim is one batch that one lease took. It lists the messages of the batch; those of them that still exist
-- in `message` are held. The tag of a delivery is the claim's id * 4096 + its place in the batch, from 0.
-- A key is a name's name_key (transport/postgres/values.py): any text of any length.

CREATE TABLE {s}queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    name bytea NOT NULL            -- utf-8
);

CREATE TABLE {s}binding (
    digest bytea PRIMARY KEY,      -- of queue, exchange, routing key and type
    queue int NOT NULL,
    exchange bytea NOT NULL,       -- key
    document bytea NOT NULL        -- JSON: queue, exchange, routing key, type, highest priority
);
CREATE INDEX ON {s}binding (exchange);

-- Every message that is neither settled nor dead.
CREATE TABLE {s}message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since timestamptz NOT NULL,    -- when it began, or begins, to wait: its place in line
    queue int NOT NULL,
    priority int NOT NULL,
    crashes int NOT NULL DEFAULT 0,
    raw bytea NOT NULL             -- the envelope, see wire/virtual.py
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000
);
ALTER TABLE {s}message ALTER COLUMN raw SET STORAGE EXTERNAL;

-- The line: what can be taken, in the order in which it is taken, from its time on.
CREATE TABLE {s}line (
    queue int NOT NULL,
    rank int NOT NULL,             -- -1: has crashed a process; else its priority, 0 or more
    since timestamptz NOT NULL,
    id bigint NOT NULL,
    PRIMARY KEY (queue, rank, since, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5
);

-- One row per consumer. `turn`: of the last exchange that was accepted; a late one has a lower number.
CREATE TABLE {s}lease (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    name bytea NOT NULL,
    expires timestamptz NOT NULL,
    turn bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Which leases serve which queues; these rows begin and end with the lease.
CREATE TABLE {s}serving (queue int NOT NULL, lease bigint NOT NULL, PRIMARY KEY (queue, lease));
CREATE INDEX ON {s}serving (lease);

CREATE TABLE {s}claim (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease bigint NOT NULL,
    messages bigint[] NOT NULL     -- 0 where one has left the batch
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX ON {s}claim (lease);

-- Who sleeps. Only a hint, so it need not survive a crash of the server.
CREATE UNLOGGED TABLE {s}idle (
    queue int NOT NULL,
    lease bigint NOT NULL,
    asleep boolean NOT NULL,
    PRIMARY KEY (queue, lease)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The suspect of a queue that is out, and until when the next one waits.
CREATE TABLE {s}trial (queue int PRIMARY KEY, message bigint NOT NULL, until timestamptz NOT NULL);

CREATE TABLE {s}dead (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    queue int NOT NULL,
    priority int NOT NULL,
    crashes int NOT NULL,
    reason bytea NOT NULL,         -- utf-8
    raw bytea NOT NULL
);
CREATE INDEX ON {s}dead (queue, id);

CREATE TABLE {s}revoked (key bytea PRIMARY KEY, id bytea NOT NULL, until timestamptz NOT NULL);

-- The last publish of each channel of a producer, so that one that is repeated is recognised.
CREATE TABLE {s}producer (
    name bytea PRIMARY KEY,
    turn bigint NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
