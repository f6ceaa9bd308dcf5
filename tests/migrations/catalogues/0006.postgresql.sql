CREATE TABLE public.admin_sessions (
    token_sha256 character varying(64) NOT NULL,
    admin_id character varying(32) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL
);
CREATE TABLE public.admins (
    id character varying(32) NOT NULL,
    username character varying(64) NOT NULL,
    password_hash character varying(255) NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.assertions (
    id character varying(32) NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    name character varying(100) NOT NULL,
    statement text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by character varying(255) NOT NULL
);
CREATE TABLE public.database_backups (
    id character varying(32) NOT NULL,
    filename character varying(255) NOT NULL,
    size bigint NOT NULL,
    status character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    notes text NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    trigger character varying(16) NOT NULL,
    created_by character varying(255) NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    claimed_by character varying(255),
    lease_until timestamp with time zone,
    delete_requested_at timestamp with time zone,
    sha256 character varying(64) NOT NULL,
    server_version character varying(32) NOT NULL,
    tool_version character varying(32) NOT NULL,
    compression character varying(32) NOT NULL,
    oldest_reader integer,
    error_message text NOT NULL,
    error_detail text NOT NULL,
    error_hint text NOT NULL,
    log text NOT NULL,
    process character varying(255),
    progress json,
    cancelled_by character varying(255),
    database_size bigint,
    contents json,
    manifest_stale boolean DEFAULT false NOT NULL,
    "foreign" boolean DEFAULT false NOT NULL
);
CREATE TABLE public.proofs (
    id character varying(32) NOT NULL,
    backup_id character varying(32) NOT NULL,
    level integer NOT NULL,
    result character varying(16) NOT NULL,
    proved_at timestamp with time zone NOT NULL,
    milliseconds bigint NOT NULL,
    evidence json NOT NULL
);
CREATE TABLE public.restores (
    id character varying(32) NOT NULL,
    filename character varying(255) NOT NULL,
    kind character varying(16) NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    working character varying(63) NOT NULL,
    kept character varying(63),
    kept_until timestamp with time zone,
    safety_backup character varying(255),
    undone_at timestamp with time zone,
    undone_by character varying(255),
    dropped_at timestamp with time zone,
    tidied_at timestamp with time zone,
    result json NOT NULL,
    status character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    trigger character varying(16) NOT NULL,
    created_by character varying(255) NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    claimed_by character varying(255),
    lease_until timestamp with time zone,
    process character varying(255),
    progress json,
    cancelled_by character varying(255),
    error_message text NOT NULL,
    error_detail text NOT NULL,
    error_hint text NOT NULL,
    log text NOT NULL,
    as_superuser boolean DEFAULT false NOT NULL,
    marker json,
    tables json
);
CREATE TABLE public.sign_in_throttles (
    key_sha256 character varying(64) NOT NULL,
    failures integer NOT NULL,
    last_failure_at timestamp with time zone NOT NULL
);
CREATE TABLE public.uploads (
    id character varying(32) NOT NULL,
    name character varying(255) NOT NULL,
    size bigint NOT NULL,
    notes text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by character varying(255) NOT NULL
);
CREATE TABLE public.workers (
    id character varying(255) NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL
);
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 0', 'admins id 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00');
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 1', 'admins id 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00');
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 2', 'admins id 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 0', 'admins username 0', 'admins password_hash 0', '2026-01-01 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 1', 'admins username 1', 'admins password_hash 1', '2026-01-02 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 2', 'admins username 2', 'admins password_hash 2', '2026-01-03 03:00:00.123+00');
INSERT INTO public.alembic_version VALUES ('0006');
INSERT INTO public.assertions VALUES ('assertions id 0', 'db1:5432', 'shop', 'assertions name 0', 'assertions statement 0', '2026-01-01 03:00:00.123+00', 'assertions created_by 0');
INSERT INTO public.assertions VALUES ('assertions id 1', 'db1:5432', 'shop', 'assertions name 1', 'assertions statement 1', '2026-01-02 03:00:00.123+00', 'assertions created_by 1');
INSERT INTO public.assertions VALUES ('assertions id 2', 'db1:5432', 'shop', 'assertions name 2', 'assertions statement 2', '2026-01-03 03:00:00.123+00', 'assertions created_by 2');
INSERT INTO public.database_backups VALUES ('database_backups id 0', 'backup_2026-01-01T03-00-00-123Z.dump', 1, 'COMPLETED', '2026-01-01 03:00:00.123+00', 'database_backups notes 0', 'db1:5432', 'shop', 'cli', 'database_backups created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'database_backups claimed_by 0', NULL, NULL, 'database_backups sha256 0', 'atabase_backups server_version 0', 'database_backups tool_version 0', 'database_backups compression 0', 17, 'database_backups error_message 0', 'database_backups error_detail 0', 'database_backups error_hint 0', 'database_backups log 0', 'database_backups process 0', '{"kept": 0}', NULL, 1, '{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}', false, false);
INSERT INTO public.database_backups VALUES ('database_backups id 1', 'backup_2026-01-01T03-01-00-123Z.dump', 2, 'COMPLETED', '2026-01-02 03:00:00.123+00', 'database_backups notes 1', 'db1:5432', 'shop', 'cli', 'database_backups created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'database_backups claimed_by 1', NULL, NULL, 'database_backups sha256 1', 'atabase_backups server_version 1', 'database_backups tool_version 1', 'database_backups compression 1', 17, 'database_backups error_message 1', 'database_backups error_detail 1', 'database_backups error_hint 1', 'database_backups log 1', 'database_backups process 1', '{"kept": 1}', NULL, 2, '{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}', false, false);
INSERT INTO public.database_backups VALUES ('database_backups id 2', 'backup_2026-01-01T03-02-00-123Z.dump', 3, 'FAILED', '2026-01-03 03:00:00.123+00', 'database_backups notes 2', 'db1:5432', 'shop', 'cli', 'database_backups created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'database_backups claimed_by 2', NULL, NULL, 'database_backups sha256 2', 'atabase_backups server_version 2', 'database_backups tool_version 2', 'database_backups compression 2', 17, 'database_backups error_message 2', 'database_backups error_detail 2', 'database_backups error_hint 2', 'database_backups log 2', 'database_backups process 2', '{"kept": 2}', NULL, 3, 'null', false, false);
INSERT INTO public.proofs VALUES ('proofs id 0', 'database_backups id 0', 2, 'passed', '2026-01-01 03:00:00.123+00', 1, '{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO public.proofs VALUES ('proofs id 1', 'database_backups id 1', 2, 'passed', '2026-01-02 03:00:00.123+00', 2, '{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO public.proofs VALUES ('proofs id 2', 'database_backups id 1', 3, 'passed', '2026-01-03 03:00:00.123+00', 3, '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}');
INSERT INTO public.restores VALUES ('restores id 0', 'backup_2026-01-01T03-00-00-123Z.dump', 'drill', 'db1:5432', 'shop', 'restores working 0', 'restores kept 0', NULL, 'restores safety_backup 0', '2026-01-01 03:00:00.123+00', 'restores undone_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}', 'COMPLETED', '2026-01-01 03:00:00.123+00', 'cli', 'restores created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'restores claimed_by 0', NULL, 'restores process 0', '{"kept": 0}', NULL, 'restores error_message 0', 'restores error_detail 0', 'restores error_hint 0', 'restores log 0', false, '{"kept": 0}', '{"kept": 0}');
INSERT INTO public.restores VALUES ('restores id 1', 'backup_2026-01-01T03-01-00-123Z.dump', 'beside', 'db1:5432', 'shop', 'restores working 1', 'restores kept 1', NULL, 'restores safety_backup 1', '2026-01-02 03:00:00.123+00', 'restores undone_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}', 'FAILED', '2026-01-02 03:00:00.123+00', 'cli', 'restores created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'restores claimed_by 1', NULL, 'restores process 1', '{"kept": 1}', NULL, 'restores error_message 1', 'restores error_detail 1', 'restores error_hint 1', 'restores log 1', false, '{"kept": 1}', '{"kept": 1}');
INSERT INTO public.restores VALUES ('restores id 2', 'backup_2026-01-01T03-02-00-123Z.dump', 'drill', 'db1:5432', 'shop', 'restores working 2', 'restores kept 2', NULL, 'restores safety_backup 2', '2026-01-03 03:00:00.123+00', 'restores undone_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', '{}', 'COMPLETED', '2026-01-03 03:00:00.123+00', 'cli', 'restores created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'restores claimed_by 2', NULL, 'restores process 2', '{"kept": 2}', NULL, 'restores error_message 2', 'restores error_detail 2', 'restores error_hint 2', 'restores log 2', false, '{"kept": 2}', '{"kept": 2}');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 0', 1, '2026-01-01 03:00:00.123+00');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 1', 2, '2026-01-02 03:00:00.123+00');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 2', 3, '2026-01-03 03:00:00.123+00');
INSERT INTO public.uploads VALUES ('uploads id 0', 'uploads name 0', 1, 'uploads notes 0', '2026-01-01 03:00:00.123+00', 'uploads created_by 0');
INSERT INTO public.uploads VALUES ('uploads id 1', 'uploads name 1', 2, 'uploads notes 1', '2026-01-02 03:00:00.123+00', 'uploads created_by 1');
INSERT INTO public.uploads VALUES ('uploads id 2', 'uploads name 2', 3, 'uploads notes 2', '2026-01-03 03:00:00.123+00', 'uploads created_by 2');
INSERT INTO public.workers VALUES ('workers id 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00');
INSERT INTO public.workers VALUES ('workers id 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00');
INSERT INTO public.workers VALUES ('workers id 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT pk_admin_sessions PRIMARY KEY (token_sha256);
ALTER TABLE ONLY public.admins
    ADD CONSTRAINT pk_admins PRIMARY KEY (id);
ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT pk_assertions PRIMARY KEY (id);
ALTER TABLE ONLY public.database_backups
    ADD CONSTRAINT pk_database_backups PRIMARY KEY (id);
ALTER TABLE ONLY public.proofs
    ADD CONSTRAINT pk_proofs PRIMARY KEY (id);
ALTER TABLE ONLY public.restores
    ADD CONSTRAINT pk_restores PRIMARY KEY (id);
ALTER TABLE ONLY public.sign_in_throttles
    ADD CONSTRAINT pk_sign_in_throttles PRIMARY KEY (key_sha256);
ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT pk_uploads PRIMARY KEY (id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT pk_workers PRIMARY KEY (id);
ALTER TABLE ONLY public.admins
    ADD CONSTRAINT uq_admins_username UNIQUE (username);
ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT uq_assertions_of_database UNIQUE (server, database, name);
ALTER TABLE ONLY public.database_backups
    ADD CONSTRAINT uq_database_backups_filename UNIQUE (filename);
CREATE INDEX ix_admin_sessions_admin_id ON public.admin_sessions USING btree (admin_id);
CREATE INDEX ix_database_backups_newest ON public.database_backups USING btree (created_at, id);
CREATE INDEX ix_proofs_of_backup ON public.proofs USING btree (backup_id, proved_at);
CREATE INDEX ix_restores_newest ON public.restores USING btree (created_at, id);
CREATE INDEX ix_sign_in_throttles_last_failure_at ON public.sign_in_throttles USING btree (last_failure_at);
CREATE UNIQUE INDEX uq_database_backups_one_pending ON public.database_backups USING btree (server, database) WHERE ((status)::text = 'PENDING'::text);
CREATE UNIQUE INDEX uq_restores_one_pending ON public.restores USING btree (status) WHERE ((status)::text = 'PENDING'::text);
ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT fk_admin_sessions_admin_id_admins FOREIGN KEY (admin_id) REFERENCES public.admins(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.proofs
    ADD CONSTRAINT fk_proofs_backup_id_database_backups FOREIGN KEY (backup_id) REFERENCES public.database_backups(id) ON UPDATE CASCADE ON DELETE CASCADE;
