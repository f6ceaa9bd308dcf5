CREATE FUNCTION public.audit_entries_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'audit entries are never changed or deleted'; END $$;
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
CREATE TABLE public.alarms (
    id character varying(32) NOT NULL,
    kind character varying(16) NOT NULL,
    subject character varying(600) NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    title character varying(255) NOT NULL,
    body text NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    told_at timestamp with time zone,
    told character varying(255) NOT NULL,
    closed_at timestamp with time zone
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
CREATE TABLE public.audit_entries (
    id bigint NOT NULL,
    at character varying(24) NOT NULL,
    actor character varying(255) NOT NULL,
    face character varying(16) NOT NULL,
    origin character varying(255) NOT NULL,
    action character varying(100) NOT NULL,
    subject character varying(255) NOT NULL,
    outcome character varying(16) NOT NULL,
    detail text NOT NULL,
    previous_hash character varying(64) NOT NULL,
    hash character varying(64) NOT NULL
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
    "foreign" boolean DEFAULT false NOT NULL,
    error_is_passing boolean DEFAULT false NOT NULL,
    told_at timestamp with time zone,
    pinned_at timestamp with time zone,
    pinned_by character varying(255) DEFAULT ''::character varying NOT NULL,
    pin_reason character varying(200) DEFAULT ''::character varying NOT NULL
);
CREATE TABLE public.deliveries (
    id character varying(32) NOT NULL,
    lane character varying(32) NOT NULL,
    notifier_id character varying(32),
    heartbeat text,
    key character varying(255) NOT NULL,
    fact character varying(32) NOT NULL,
    level character varying(16) NOT NULL,
    title character varying(255) NOT NULL,
    body text NOT NULL,
    status character varying(16) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    next_attempt_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone,
    ended_at timestamp with time zone,
    last_error text NOT NULL
);
CREATE TABLE public.notifiers (
    id character varying(32) NOT NULL,
    name character varying(100) NOT NULL,
    url text NOT NULL,
    target character varying(400) NOT NULL,
    facts json,
    title character varying(200) NOT NULL,
    body text NOT NULL,
    enabled boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by character varying(255) NOT NULL
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
    tables json,
    error_is_passing boolean DEFAULT false NOT NULL,
    told_at timestamp with time zone
);
CREATE TABLE public.retention_policies (
    id character varying(32) NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    keep_last integer,
    keep_hourly integer,
    keep_daily integer,
    keep_weekly integer,
    keep_monthly integer,
    keep_yearly integer,
    keep_within integer,
    max_total_size bigint,
    time_zone character varying(64) NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by character varying(255) NOT NULL,
    pruned_at timestamp with time zone
);
CREATE TABLE public.schedule_firings (
    id character varying(32) NOT NULL,
    schedule_id character varying(32) NOT NULL,
    due_at timestamp with time zone NOT NULL,
    outcome character varying(16) NOT NULL,
    attempts integer NOT NULL,
    next_attempt_at timestamp with time zone,
    job_id character varying(32),
    finished_at timestamp with time zone,
    missed integer NOT NULL,
    missed_since timestamp with time zone,
    told text NOT NULL
);
CREATE TABLE public.schedules (
    id character varying(32) NOT NULL,
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    name character varying(100) NOT NULL,
    task character varying(16) NOT NULL,
    cron character varying(255) NOT NULL,
    timezone character varying(64) NOT NULL,
    notes text NOT NULL,
    enabled boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by character varying(255) NOT NULL,
    next_due_at timestamp with time zone,
    reckoned_at timestamp with time zone NOT NULL,
    heartbeat text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.seen_databases (
    server character varying(255) NOT NULL,
    database character varying(255) NOT NULL,
    seen_at timestamp with time zone NOT NULL
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
INSERT INTO public.alarms VALUES ('alarms id 0', 'backup-failed', 'alarms subject 0', 'db1:5432', 'shop', 'alarms title 0', 'alarms body 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'alarms told 0', '2026-01-01 03:00:00.123+00');
INSERT INTO public.alarms VALUES ('alarms id 1', 'drill-failed', 'alarms subject 1', 'db1:5432', 'shop', 'alarms title 1', 'alarms body 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'alarms told 1', '2026-01-02 03:00:00.123+00');
INSERT INTO public.alarms VALUES ('alarms id 2', 'backup-failed', 'alarms subject 2', 'db1:5432', 'shop', 'alarms title 2', 'alarms body 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'alarms told 2', '2026-01-03 03:00:00.123+00');
INSERT INTO public.alembic_version VALUES ('0012');
INSERT INTO public.assertions VALUES ('assertions id 0', 'db1:5432', 'shop', 'assertions name 0', 'assertions statement 0', '2026-01-01 03:00:00.123+00', 'assertions created_by 0');
INSERT INTO public.assertions VALUES ('assertions id 1', 'db1:5432', 'shop', 'assertions name 1', 'assertions statement 1', '2026-01-02 03:00:00.123+00', 'assertions created_by 1');
INSERT INTO public.assertions VALUES ('assertions id 2', 'db1:5432', 'shop', 'assertions name 2', 'assertions statement 2', '2026-01-03 03:00:00.123+00', 'assertions created_by 2');
INSERT INTO public.audit_entries VALUES (1, 'audit_entries at 0', 'audit_entries actor 0', 't_entries face 0', 'audit_entries origin 0', 'audit_entries action 0', 'audit_entries subject 0', 'done', 'audit_entries detail 0', 'audit_entries previous_hash 0', 'audit_entries hash 0');
INSERT INTO public.audit_entries VALUES (2, 'audit_entries at 1', 'audit_entries actor 1', 't_entries face 1', 'audit_entries origin 1', 'audit_entries action 1', 'audit_entries subject 1', 'refused', 'audit_entries detail 1', 'audit_entries previous_hash 1', 'audit_entries hash 1');
INSERT INTO public.audit_entries VALUES (3, 'audit_entries at 2', 'audit_entries actor 2', 't_entries face 2', 'audit_entries origin 2', 'audit_entries action 2', 'audit_entries subject 2', 'failed', 'audit_entries detail 2', 'audit_entries previous_hash 2', 'audit_entries hash 2');
INSERT INTO public.database_backups VALUES ('database_backups id 0', 'backup_2026-01-01T03-00-00-123Z.dump', 1, 'COMPLETED', '2026-01-01 03:00:00.123+00', 'database_backups notes 0', 'db1:5432', 'shop', 'cli', 'database_backups created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'database_backups claimed_by 0', NULL, NULL, 'database_backups sha256 0', 'atabase_backups server_version 0', 'database_backups tool_version 0', 'database_backups compression 0', 17, 'database_backups error_message 0', 'database_backups error_detail 0', 'database_backups error_hint 0', 'database_backups log 0', 'database_backups process 0', '{"kept": 0}', NULL, 1, '{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}', false, false, false, '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'database_backups pinned_by 0', 'database_backups pin_reason 0');
INSERT INTO public.database_backups VALUES ('database_backups id 1', 'backup_2026-01-01T03-01-00-123Z.dump', 2, 'COMPLETED', '2026-01-02 03:00:00.123+00', 'database_backups notes 1', 'db1:5432', 'shop', 'cli', 'database_backups created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'database_backups claimed_by 1', NULL, NULL, 'database_backups sha256 1', 'atabase_backups server_version 1', 'database_backups tool_version 1', 'database_backups compression 1', 17, 'database_backups error_message 1', 'database_backups error_detail 1', 'database_backups error_hint 1', 'database_backups log 1', 'database_backups process 1', '{"kept": 1}', NULL, 2, '{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}', false, false, false, '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'database_backups pinned_by 1', 'database_backups pin_reason 1');
INSERT INTO public.database_backups VALUES ('database_backups id 2', 'backup_2026-01-01T03-02-00-123Z.dump', 3, 'FAILED', '2026-01-03 03:00:00.123+00', 'database_backups notes 2', 'db1:5432', 'shop', 'cli', 'database_backups created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'database_backups claimed_by 2', NULL, NULL, 'database_backups sha256 2', 'atabase_backups server_version 2', 'database_backups tool_version 2', 'database_backups compression 2', 17, 'database_backups error_message 2', 'database_backups error_detail 2', 'database_backups error_hint 2', 'database_backups log 2', 'database_backups process 2', '{"kept": 2}', NULL, 3, 'null', false, false, false, '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'database_backups pinned_by 2', 'database_backups pin_reason 2');
INSERT INTO public.deliveries VALUES ('deliveries id 0', 'deliveries lane 0', 'notifiers id 0', 'deliveries heartbeat 0', 'deliveries key 0', 'backup-failed', 'liveries level 0', 'deliveries title 0', 'deliveries body 0', 'sent', '2026-01-01 03:00:00.123+00', 1, '2026-01-01 03:00:00.123+00', NULL, '2026-01-01 03:00:00.123+00', 'deliveries last_error 0');
INSERT INTO public.deliveries VALUES ('deliveries id 1', 'deliveries lane 1', 'notifiers id 1', 'deliveries heartbeat 1', 'deliveries key 1', 'backup-failed', 'liveries level 1', 'deliveries title 1', 'deliveries body 1', 'failed', '2026-01-02 03:00:00.123+00', 2, '2026-01-02 03:00:00.123+00', NULL, '2026-01-02 03:00:00.123+00', 'deliveries last_error 1');
INSERT INTO public.deliveries VALUES ('deliveries id 2', 'deliveries lane 2', 'notifiers id 2', 'deliveries heartbeat 2', 'deliveries key 2', 'backup-failed', 'liveries level 2', 'deliveries title 2', 'deliveries body 2', 'sent', '2026-01-03 03:00:00.123+00', 3, '2026-01-03 03:00:00.123+00', NULL, '2026-01-03 03:00:00.123+00', 'deliveries last_error 2');
INSERT INTO public.notifiers VALUES ('notifiers id 0', 'notifiers name 0', 'notifiers url 0', 'notifiers target 0', '["backup-failed"]', 'notifiers title 0', 'notifiers body 0', true, '2026-01-01 03:00:00.123+00', 'notifiers created_by 0');
INSERT INTO public.notifiers VALUES ('notifiers id 1', 'notifiers name 1', 'notifiers url 1', 'notifiers target 1', 'null', 'notifiers title 1', 'notifiers body 1', true, '2026-01-02 03:00:00.123+00', 'notifiers created_by 1');
INSERT INTO public.notifiers VALUES ('notifiers id 2', 'notifiers name 2', 'notifiers url 2', 'notifiers target 2', '["backup-failed"]', 'notifiers title 2', 'notifiers body 2', true, '2026-01-03 03:00:00.123+00', 'notifiers created_by 2');
INSERT INTO public.proofs VALUES ('proofs id 0', 'database_backups id 0', 2, 'passed', '2026-01-01 03:00:00.123+00', 1, '{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO public.proofs VALUES ('proofs id 1', 'database_backups id 1', 2, 'passed', '2026-01-02 03:00:00.123+00', 2, '{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO public.proofs VALUES ('proofs id 2', 'database_backups id 1', 3, 'passed', '2026-01-03 03:00:00.123+00', 3, '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}');
INSERT INTO public.restores VALUES ('restores id 0', 'backup_2026-01-01T03-00-00-123Z.dump', 'drill', 'db1:5432', 'shop', 'restores working 0', 'restores kept 0', NULL, 'restores safety_backup 0', '2026-01-01 03:00:00.123+00', 'restores undone_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}', 'COMPLETED', '2026-01-01 03:00:00.123+00', 'cli', 'restores created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'restores claimed_by 0', NULL, 'restores process 0', '{"kept": 0}', NULL, 'restores error_message 0', 'restores error_detail 0', 'restores error_hint 0', 'restores log 0', false, '{"kept": 0}', '{"kept": 0}', false, '2026-01-01 03:00:00.123+00');
INSERT INTO public.restores VALUES ('restores id 1', 'backup_2026-01-01T03-01-00-123Z.dump', 'beside', 'db1:5432', 'shop', 'restores working 1', 'restores kept 1', NULL, 'restores safety_backup 1', '2026-01-02 03:00:00.123+00', 'restores undone_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', '{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}', 'FAILED', '2026-01-02 03:00:00.123+00', 'cli', 'restores created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'restores claimed_by 1', NULL, 'restores process 1', '{"kept": 1}', NULL, 'restores error_message 1', 'restores error_detail 1', 'restores error_hint 1', 'restores log 1', false, '{"kept": 1}', '{"kept": 1}', false, '2026-01-02 03:00:00.123+00');
INSERT INTO public.restores VALUES ('restores id 2', 'backup_2026-01-01T03-02-00-123Z.dump', 'drill', 'db1:5432', 'shop', 'restores working 2', 'restores kept 2', NULL, 'restores safety_backup 2', '2026-01-03 03:00:00.123+00', 'restores undone_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', '{}', 'COMPLETED', '2026-01-03 03:00:00.123+00', 'cli', 'restores created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'restores claimed_by 2', NULL, 'restores process 2', '{"kept": 2}', NULL, 'restores error_message 2', 'restores error_detail 2', 'restores error_hint 2', 'restores log 2', false, '{"kept": 2}', '{"kept": 2}', false, '2026-01-03 03:00:00.123+00');
INSERT INTO public.retention_policies VALUES ('retention_policies id 0', 'db1:5432', 'shop', 1, 1, 1, 1, 1, 1, 1, 1, 'Europe/Berlin', '2026-01-01 03:00:00.123+00', 'retention_policies updated_by 0', '2026-01-01 03:00:00.123+00');
INSERT INTO public.retention_policies VALUES ('retention_policies id 1', 'db1:5432', 'crm', 2, 2, 2, 2, 2, 2, 2, 2, 'Europe/Berlin', '2026-01-02 03:00:00.123+00', 'retention_policies updated_by 1', '2026-01-02 03:00:00.123+00');
INSERT INTO public.retention_policies VALUES ('retention_policies id 2', 'db1:5432', 'wiki', 3, 3, 3, 3, 3, 3, 3, 3, 'Europe/Berlin', '2026-01-03 03:00:00.123+00', 'retention_policies updated_by 2', '2026-01-03 03:00:00.123+00');
INSERT INTO public.schedule_firings VALUES ('schedule_firings id 0', 'schedules id 0', '2026-01-01 03:00:00.123+00', 'completed', 1, NULL, 'schedule_firings job_id 0', '2026-01-01 03:00:00.123+00', 1, '2026-01-01 03:00:00.123+00', 'schedule_firings told 0');
INSERT INTO public.schedule_firings VALUES ('schedule_firings id 1', 'schedules id 1', '2026-01-02 03:00:00.123+00', 'failed', 2, NULL, 'schedule_firings job_id 1', '2026-01-02 03:00:00.123+00', 2, '2026-01-02 03:00:00.123+00', 'schedule_firings told 1');
INSERT INTO public.schedule_firings VALUES ('schedule_firings id 2', 'schedules id 2', '2026-01-03 03:00:00.123+00', 'completed', 3, NULL, 'schedule_firings job_id 2', '2026-01-03 03:00:00.123+00', 3, '2026-01-03 03:00:00.123+00', 'schedule_firings told 2');
INSERT INTO public.schedules VALUES ('schedules id 0', 'db1:5432', 'shop', 'schedules name 0', 'backup', '0 3 * * *', 'Europe/Berlin', 'schedules notes 0', true, '2026-01-01 03:00:00.123+00', 'schedules created_by 0', '2026-01-01 03:00:00.123+00', '2026-01-01 03:00:00.123+00', 'schedules heartbeat 0');
INSERT INTO public.schedules VALUES ('schedules id 1', 'db1:5432', 'shop', 'schedules name 1', 'drill', '0 3 * * *', 'Europe/Berlin', 'schedules notes 1', true, '2026-01-02 03:00:00.123+00', 'schedules created_by 1', '2026-01-02 03:00:00.123+00', '2026-01-02 03:00:00.123+00', 'schedules heartbeat 1');
INSERT INTO public.schedules VALUES ('schedules id 2', 'db1:5432', 'shop', 'schedules name 2', 'scrub', '0 3 * * *', 'Europe/Berlin', 'schedules notes 2', true, '2026-01-03 03:00:00.123+00', 'schedules created_by 2', '2026-01-03 03:00:00.123+00', '2026-01-03 03:00:00.123+00', 'schedules heartbeat 2');
INSERT INTO public.seen_databases VALUES ('db1:5432', 'shop', '2026-01-01 03:00:00.123+00');
INSERT INTO public.seen_databases VALUES ('db1:5432', 'crm', '2026-01-02 03:00:00.123+00');
INSERT INTO public.seen_databases VALUES ('db1:5432', 'wiki', '2026-01-03 03:00:00.123+00');
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
ALTER TABLE ONLY public.alarms
    ADD CONSTRAINT pk_alarms PRIMARY KEY (id);
ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT pk_assertions PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_entries
    ADD CONSTRAINT pk_audit_entries PRIMARY KEY (id);
ALTER TABLE ONLY public.database_backups
    ADD CONSTRAINT pk_database_backups PRIMARY KEY (id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (id);
ALTER TABLE ONLY public.notifiers
    ADD CONSTRAINT pk_notifiers PRIMARY KEY (id);
ALTER TABLE ONLY public.proofs
    ADD CONSTRAINT pk_proofs PRIMARY KEY (id);
ALTER TABLE ONLY public.restores
    ADD CONSTRAINT pk_restores PRIMARY KEY (id);
ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT pk_retention_policies PRIMARY KEY (id);
ALTER TABLE ONLY public.schedule_firings
    ADD CONSTRAINT pk_schedule_firings PRIMARY KEY (id);
ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT pk_schedules PRIMARY KEY (id);
ALTER TABLE ONLY public.seen_databases
    ADD CONSTRAINT pk_seen_databases PRIMARY KEY (server, database);
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
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT uq_deliveries_once UNIQUE (lane, key);
ALTER TABLE ONLY public.notifiers
    ADD CONSTRAINT uq_notifiers_name UNIQUE (name);
ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT uq_retention_policies_of_database UNIQUE (server, database);
ALTER TABLE ONLY public.schedule_firings
    ADD CONSTRAINT uq_schedule_firings_once UNIQUE (schedule_id, due_at);
ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT uq_schedules_of_database UNIQUE (server, database, name);
CREATE INDEX ix_admin_sessions_admin_id ON public.admin_sessions USING btree (admin_id);
CREATE INDEX ix_alarms_newest ON public.alarms USING btree (opened_at, id);
CREATE INDEX ix_alarms_told ON public.alarms USING btree (kind, subject, told_at);
CREATE INDEX ix_audit_entries_action ON public.audit_entries USING btree (action, id);
CREATE INDEX ix_audit_entries_actor ON public.audit_entries USING btree (actor, id);
CREATE INDEX ix_audit_entries_origin ON public.audit_entries USING btree (origin, at);
CREATE INDEX ix_audit_entries_outcome ON public.audit_entries USING btree (outcome, id);
CREATE INDEX ix_database_backups_for_retention ON public.database_backups USING btree (server, database, status, created_at, id, filename, pinned_at, "foreign", delete_requested_at, size);
CREATE INDEX ix_database_backups_newest ON public.database_backups USING btree (created_at, id);
CREATE INDEX ix_database_backups_of_database ON public.database_backups USING btree (status, server, database, created_at);
CREATE INDEX ix_database_backups_of_status ON public.database_backups USING btree (status, created_at, id);
CREATE INDEX ix_database_backups_of_trigger ON public.database_backups USING btree (status, trigger, size);
CREATE INDEX ix_database_backups_untold ON public.database_backups USING btree (status) WHERE (told_at IS NULL);
CREATE INDEX ix_deliveries_newest ON public.deliveries USING btree (created_at, id);
CREATE INDEX ix_deliveries_of_notifier ON public.deliveries USING btree (notifier_id, created_at);
CREATE INDEX ix_deliveries_queued ON public.deliveries USING btree (next_attempt_at) WHERE ((status)::text = 'queued'::text);
CREATE INDEX ix_proofs_failed ON public.proofs USING btree (backup_id) WHERE ((result)::text = 'failed'::text);
CREATE INDEX ix_proofs_of_backup ON public.proofs USING btree (backup_id, result, level);
CREATE INDEX ix_proofs_of_level ON public.proofs USING btree (level, result, backup_id, proved_at);
CREATE INDEX ix_proofs_of_result ON public.proofs USING btree (result, level, backup_id);
CREATE INDEX ix_restores_newest ON public.restores USING btree (created_at, id);
CREATE INDEX ix_restores_untold ON public.restores USING btree (status) WHERE (told_at IS NULL);
CREATE INDEX ix_schedule_firings_open ON public.schedule_firings USING btree (outcome, next_attempt_at);
CREATE INDEX ix_schedules_due ON public.schedules USING btree (next_due_at);
CREATE INDEX ix_schedules_reckoned ON public.schedules USING btree (reckoned_at);
CREATE INDEX ix_sign_in_throttles_last_failure_at ON public.sign_in_throttles USING btree (last_failure_at);
CREATE UNIQUE INDEX uq_alarms_one_open ON public.alarms USING btree (kind, subject) WHERE (closed_at IS NULL);
CREATE UNIQUE INDEX uq_database_backups_one_pending ON public.database_backups USING btree (server, database) WHERE ((status)::text = 'PENDING'::text);
CREATE UNIQUE INDEX uq_restores_one_pending ON public.restores USING btree (status) WHERE ((status)::text = 'PENDING'::text);
CREATE TRIGGER audit_entries_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_entries FOR EACH STATEMENT EXECUTE FUNCTION public.audit_entries_refuse();
ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT fk_admin_sessions_admin_id_admins FOREIGN KEY (admin_id) REFERENCES public.admins(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT fk_deliveries_notifier_id_notifiers FOREIGN KEY (notifier_id) REFERENCES public.notifiers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.proofs
    ADD CONSTRAINT fk_proofs_backup_id_database_backups FOREIGN KEY (backup_id) REFERENCES public.database_backups(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY public.schedule_firings
    ADD CONSTRAINT fk_schedule_firings_schedule_id_schedules FOREIGN KEY (schedule_id) REFERENCES public.schedules(id) ON DELETE CASCADE;
