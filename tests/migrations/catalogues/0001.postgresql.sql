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
    log text NOT NULL
);
CREATE TABLE public.sign_in_throttles (
    key_sha256 character varying(64) NOT NULL,
    failures integer NOT NULL,
    last_failure_at timestamp with time zone NOT NULL
);
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 0', 'admins id 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00');
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 1', 'admins id 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00');
INSERT INTO public.admin_sessions VALUES ('admin_sessions token_sha256 2', 'admins id 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 0', 'admins username 0', 'admins password_hash 0', '2026-01-01 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 1', 'admins username 1', 'admins password_hash 1', '2026-01-02 03:00:00.123+00');
INSERT INTO public.admins VALUES ('admins id 2', 'admins username 2', 'admins password_hash 2', '2026-01-03 03:00:00.123+00');
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.database_backups VALUES ('database_backups id 0', 'backup_2026-01-01T03-00-00-123Z.dump', 1, 'COMPLETED', '2026-01-01 03:00:00.123+00', 'database_backups notes 0', 'db1:5432', 'shop', 'cli', 'database_backups created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'database_backups claimed_by 0', NULL, NULL, 'database_backups sha256 0', 'atabase_backups server_version 0', 'database_backups tool_version 0', 'database_backups compression 0', 17, 'database_backups error_message 0', 'database_backups error_detail 0', 'database_backups error_hint 0', 'database_backups log 0');
INSERT INTO public.database_backups VALUES ('database_backups id 1', 'backup_2026-01-01T03-01-00-123Z.dump', 2, 'COMPLETED', '2026-01-02 03:00:00.123+00', 'database_backups notes 1', 'db1:5432', 'shop', 'cli', 'database_backups created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'database_backups claimed_by 1', NULL, NULL, 'database_backups sha256 1', 'atabase_backups server_version 1', 'database_backups tool_version 1', 'database_backups compression 1', 17, 'database_backups error_message 1', 'database_backups error_detail 1', 'database_backups error_hint 1', 'database_backups log 1');
INSERT INTO public.database_backups VALUES ('database_backups id 2', 'backup_2026-01-01T03-02-00-123Z.dump', 3, 'FAILED', '2026-01-03 03:00:00.123+00', 'database_backups notes 2', 'db1:5432', 'shop', 'cli', 'database_backups created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'database_backups claimed_by 2', NULL, NULL, 'database_backups sha256 2', 'atabase_backups server_version 2', 'database_backups tool_version 2', 'database_backups compression 2', 17, 'database_backups error_message 2', 'database_backups error_detail 2', 'database_backups error_hint 2', 'database_backups log 2');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 0', 1, '2026-01-01 03:00:00.123+00');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 1', 2, '2026-01-02 03:00:00.123+00');
INSERT INTO public.sign_in_throttles VALUES ('sign_in_throttles key_sha256 2', 3, '2026-01-03 03:00:00.123+00');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT pk_admin_sessions PRIMARY KEY (token_sha256);
ALTER TABLE ONLY public.admins
    ADD CONSTRAINT pk_admins PRIMARY KEY (id);
ALTER TABLE ONLY public.database_backups
    ADD CONSTRAINT pk_database_backups PRIMARY KEY (id);
ALTER TABLE ONLY public.sign_in_throttles
    ADD CONSTRAINT pk_sign_in_throttles PRIMARY KEY (key_sha256);
ALTER TABLE ONLY public.admins
    ADD CONSTRAINT uq_admins_username UNIQUE (username);
ALTER TABLE ONLY public.database_backups
    ADD CONSTRAINT uq_database_backups_filename UNIQUE (filename);
CREATE INDEX ix_admin_sessions_admin_id ON public.admin_sessions USING btree (admin_id);
CREATE INDEX ix_database_backups_newest ON public.database_backups USING btree (created_at, id);
CREATE INDEX ix_sign_in_throttles_last_failure_at ON public.sign_in_throttles USING btree (last_failure_at);
CREATE UNIQUE INDEX uq_database_backups_one_pending ON public.database_backups USING btree (server, database) WHERE ((status)::text = 'PENDING'::text);
ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT fk_admin_sessions_admin_id_admins FOREIGN KEY (admin_id) REFERENCES public.admins(id) ON DELETE CASCADE;
