BEGIN TRANSACTION;
CREATE TABLE admin_sessions (
	token_sha256 VARCHAR(64) NOT NULL, 
	admin_id VARCHAR(32) NOT NULL, 
	created_at DATETIME NOT NULL, 
	last_seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_admin_sessions PRIMARY KEY (token_sha256), 
	CONSTRAINT fk_admin_sessions_admin_id_admins FOREIGN KEY(admin_id) REFERENCES admins (id) ON DELETE CASCADE
);
INSERT INTO "admin_sessions" VALUES('admin_sessions token_sha256 0','admins id 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000');
INSERT INTO "admin_sessions" VALUES('admin_sessions token_sha256 1','admins id 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000');
INSERT INTO "admin_sessions" VALUES('admin_sessions token_sha256 2','admins id 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000');
CREATE TABLE admins (
	id VARCHAR(32) NOT NULL, 
	username VARCHAR(64) NOT NULL, 
	password_hash VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_admins PRIMARY KEY (id), 
	CONSTRAINT uq_admins_username UNIQUE (username)
);
INSERT INTO "admins" VALUES('admins id 0','admins username 0','admins password_hash 0','2026-01-01 03:00:00.123000');
INSERT INTO "admins" VALUES('admins id 1','admins username 1','admins password_hash 1','2026-01-02 03:00:00.123000');
INSERT INTO "admins" VALUES('admins id 2','admins username 2','admins password_hash 2','2026-01-03 03:00:00.123000');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE assertions (
	id VARCHAR(32) NOT NULL, 
	server VARCHAR(255) NOT NULL, 
	"database" VARCHAR(255) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	statement TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_assertions PRIMARY KEY (id), 
	CONSTRAINT uq_assertions_of_database UNIQUE (server, "database", name)
);
INSERT INTO "assertions" VALUES('assertions id 0','db1:5432','shop','assertions name 0','assertions statement 0','2026-01-01 03:00:00.123000','assertions created_by 0');
INSERT INTO "assertions" VALUES('assertions id 1','db1:5432','shop','assertions name 1','assertions statement 1','2026-01-02 03:00:00.123000','assertions created_by 1');
INSERT INTO "assertions" VALUES('assertions id 2','db1:5432','shop','assertions name 2','assertions statement 2','2026-01-03 03:00:00.123000','assertions created_by 2');
CREATE TABLE audit_entries (
	id BIGINT NOT NULL, 
	at VARCHAR(24) NOT NULL, 
	actor VARCHAR(255) NOT NULL, 
	face VARCHAR(16) NOT NULL, 
	origin VARCHAR(255) NOT NULL, 
	action VARCHAR(100) NOT NULL, 
	subject VARCHAR(255) NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	detail TEXT NOT NULL, 
	previous_hash VARCHAR(64) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit_entries PRIMARY KEY (id)
);
INSERT INTO "audit_entries" VALUES(1,'audit_entries at 0','audit_entries actor 0','t_entries face 0','audit_entries origin 0','audit_entries action 0','audit_entries subject 0','done','audit_entries detail 0','audit_entries previous_hash 0','audit_entries hash 0');
INSERT INTO "audit_entries" VALUES(2,'audit_entries at 1','audit_entries actor 1','t_entries face 1','audit_entries origin 1','audit_entries action 1','audit_entries subject 1','refused','audit_entries detail 1','audit_entries previous_hash 1','audit_entries hash 1');
INSERT INTO "audit_entries" VALUES(3,'audit_entries at 2','audit_entries actor 2','t_entries face 2','audit_entries origin 2','audit_entries action 2','audit_entries subject 2','failed','audit_entries detail 2','audit_entries previous_hash 2','audit_entries hash 2');
CREATE TABLE "database_backups" (
	id VARCHAR(32) NOT NULL, 
	filename VARCHAR(255) NOT NULL, 
	size BIGINT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	created_at DATETIME NOT NULL, 
	notes TEXT NOT NULL, 
	server VARCHAR(255) NOT NULL, 
	"database" VARCHAR(255) NOT NULL, 
	"trigger" VARCHAR(16) NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	claimed_by VARCHAR(255), 
	lease_until DATETIME, 
	delete_requested_at DATETIME, 
	sha256 VARCHAR(64) NOT NULL, 
	server_version VARCHAR(32) NOT NULL, 
	tool_version VARCHAR(32) NOT NULL, 
	compression VARCHAR(32) NOT NULL, 
	oldest_reader INTEGER, 
	error_message TEXT NOT NULL, 
	error_detail TEXT NOT NULL, 
	error_hint TEXT NOT NULL, 
	log TEXT NOT NULL, 
	process VARCHAR(255), 
	progress JSON, 
	cancelled_by VARCHAR(255), 
	database_size BIGINT, 
	contents JSON, 
	manifest_stale BOOLEAN DEFAULT 0 NOT NULL, 
	"foreign" BOOLEAN DEFAULT 0 NOT NULL, 
	error_is_passing BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_database_backups PRIMARY KEY (id), 
	CONSTRAINT uq_database_backups_filename UNIQUE (filename)
);
INSERT INTO "database_backups" VALUES('database_backups id 0','backup_2026-01-01T03-00-00-123Z.dump',1,'COMPLETED','2026-01-01 03:00:00.123000','database_backups notes 0','db1:5432','shop','cli','database_backups created_by 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000','database_backups claimed_by 0',NULL,NULL,'database_backups sha256 0','atabase_backups server_version 0','database_backups tool_version 0','database_backups compression 0',17,'database_backups error_message 0','database_backups error_detail 0','database_backups error_hint 0','database_backups log 0','database_backups process 0','{"kept": 0}',NULL,1,'{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}',0,0,0);
INSERT INTO "database_backups" VALUES('database_backups id 1','backup_2026-01-01T03-01-00-123Z.dump',2,'COMPLETED','2026-01-02 03:00:00.123000','database_backups notes 1','db1:5432','shop','cli','database_backups created_by 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000','database_backups claimed_by 1',NULL,NULL,'database_backups sha256 1','atabase_backups server_version 1','database_backups tool_version 1','database_backups compression 1',17,'database_backups error_message 1','database_backups error_detail 1','database_backups error_hint 1','database_backups log 1','database_backups process 1','{"kept": 1}',NULL,2,'{"encoding": "UTF8", "collate": "C", "ctype": "C", "localeProvider": "c", "locale": null, "extensions": [], "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}], "sequences": [], "objects": {}, "read": {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}}',0,0,0);
INSERT INTO "database_backups" VALUES('database_backups id 2','backup_2026-01-01T03-02-00-123Z.dump',3,'FAILED','2026-01-03 03:00:00.123000','database_backups notes 2','db1:5432','shop','cli','database_backups created_by 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000','database_backups claimed_by 2',NULL,NULL,'database_backups sha256 2','atabase_backups server_version 2','database_backups tool_version 2','database_backups compression 2',17,'database_backups error_message 2','database_backups error_detail 2','database_backups error_hint 2','database_backups log 2','database_backups process 2','{"kept": 2}',NULL,3,'null',0,0,0);
CREATE TABLE proofs (
	id VARCHAR(32) NOT NULL, 
	backup_id VARCHAR(32) NOT NULL, 
	level INTEGER NOT NULL, 
	result VARCHAR(16) NOT NULL, 
	proved_at DATETIME NOT NULL, 
	milliseconds BIGINT NOT NULL, 
	evidence JSON NOT NULL, 
	CONSTRAINT pk_proofs PRIMARY KEY (id), 
	CONSTRAINT fk_proofs_backup_id_database_backups FOREIGN KEY(backup_id) REFERENCES database_backups (id) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "proofs" VALUES('proofs id 0','database_backups id 0',2,'passed','2026-01-01 03:00:00.123000',1,'{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO "proofs" VALUES('proofs id 1','database_backups id 1',2,'passed','2026-01-02 03:00:00.123000',2,'{"tables": 1, "rows": 50, "uncounted": [], "differences": []}');
INSERT INTO "proofs" VALUES('proofs id 2','database_backups id 1',3,'passed','2026-01-03 03:00:00.123000',3,'{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}');
CREATE TABLE "restores" (
	id VARCHAR(32) NOT NULL, 
	filename VARCHAR(255) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	server VARCHAR(255) NOT NULL, 
	"database" VARCHAR(255) NOT NULL, 
	working VARCHAR(63) NOT NULL, 
	kept VARCHAR(63), 
	kept_until DATETIME, 
	safety_backup VARCHAR(255), 
	undone_at DATETIME, 
	undone_by VARCHAR(255), 
	dropped_at DATETIME, 
	tidied_at DATETIME, 
	result JSON NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	created_at DATETIME NOT NULL, 
	"trigger" VARCHAR(16) NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	claimed_by VARCHAR(255), 
	lease_until DATETIME, 
	process VARCHAR(255), 
	progress JSON, 
	cancelled_by VARCHAR(255), 
	error_message TEXT NOT NULL, 
	error_detail TEXT NOT NULL, 
	error_hint TEXT NOT NULL, 
	log TEXT NOT NULL, 
	as_superuser BOOLEAN DEFAULT 0 NOT NULL, 
	marker JSON, 
	tables JSON, 
	error_is_passing BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_restores PRIMARY KEY (id)
);
INSERT INTO "restores" VALUES('restores id 0','backup_2026-01-01T03-00-00-123Z.dump','drill','db1:5432','shop','restores working 0','restores kept 0',NULL,'restores safety_backup 0','2026-01-01 03:00:00.123000','restores undone_by 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000','{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}','COMPLETED','2026-01-01 03:00:00.123000','cli','restores created_by 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000','restores claimed_by 0',NULL,'restores process 0','{"kept": 0}',NULL,'restores error_message 0','restores error_detail 0','restores error_hint 0','restores log 0',0,'{"kept": 0}','{"kept": 0}',0);
INSERT INTO "restores" VALUES('restores id 1','backup_2026-01-01T03-01-00-123Z.dump','beside','db1:5432','shop','restores working 1','restores kept 1',NULL,'restores safety_backup 1','2026-01-02 03:00:00.123000','restores undone_by 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000','{"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}','FAILED','2026-01-02 03:00:00.123000','cli','restores created_by 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000','restores claimed_by 1',NULL,'restores process 1','{"kept": 1}',NULL,'restores error_message 1','restores error_detail 1','restores error_hint 1','restores log 1',0,'{"kept": 1}','{"kept": 1}',0);
INSERT INTO "restores" VALUES('restores id 2','backup_2026-01-01T03-02-00-123Z.dump','drill','db1:5432','shop','restores working 2','restores kept 2',NULL,'restores safety_backup 2','2026-01-03 03:00:00.123000','restores undone_by 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000','{}','COMPLETED','2026-01-03 03:00:00.123000','cli','restores created_by 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000','restores claimed_by 2',NULL,'restores process 2','{"kept": 2}',NULL,'restores error_message 2','restores error_detail 2','restores error_hint 2','restores log 2',0,'{"kept": 2}','{"kept": 2}',0);
CREATE TABLE schedule_firings (
	id VARCHAR(32) NOT NULL, 
	schedule_id VARCHAR(32) NOT NULL, 
	due_at DATETIME NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_attempt_at DATETIME, 
	job_id VARCHAR(32), 
	finished_at DATETIME, 
	missed INTEGER NOT NULL, 
	missed_since DATETIME, 
	told TEXT NOT NULL, 
	CONSTRAINT pk_schedule_firings PRIMARY KEY (id), 
	CONSTRAINT fk_schedule_firings_schedule_id_schedules FOREIGN KEY(schedule_id) REFERENCES schedules (id) ON DELETE CASCADE, 
	CONSTRAINT uq_schedule_firings_once UNIQUE (schedule_id, due_at)
);
INSERT INTO "schedule_firings" VALUES('schedule_firings id 0','schedules id 0','2026-01-01 03:00:00.123000','completed',1,NULL,'schedule_firings job_id 0','2026-01-01 03:00:00.123000',1,'2026-01-01 03:00:00.123000','schedule_firings told 0');
INSERT INTO "schedule_firings" VALUES('schedule_firings id 1','schedules id 1','2026-01-02 03:00:00.123000','failed',2,NULL,'schedule_firings job_id 1','2026-01-02 03:00:00.123000',2,'2026-01-02 03:00:00.123000','schedule_firings told 1');
INSERT INTO "schedule_firings" VALUES('schedule_firings id 2','schedules id 2','2026-01-03 03:00:00.123000','completed',3,NULL,'schedule_firings job_id 2','2026-01-03 03:00:00.123000',3,'2026-01-03 03:00:00.123000','schedule_firings told 2');
CREATE TABLE schedules (
	id VARCHAR(32) NOT NULL, 
	server VARCHAR(255) NOT NULL, 
	"database" VARCHAR(255) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	task VARCHAR(16) NOT NULL, 
	cron VARCHAR(255) NOT NULL, 
	timezone VARCHAR(64) NOT NULL, 
	notes TEXT NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	next_due_at DATETIME, 
	reckoned_at DATETIME NOT NULL, 
	CONSTRAINT pk_schedules PRIMARY KEY (id), 
	CONSTRAINT uq_schedules_of_database UNIQUE (server, "database", name)
);
INSERT INTO "schedules" VALUES('schedules id 0','db1:5432','shop','schedules name 0','backup','0 3 * * *','Europe/Berlin','schedules notes 0',1,'2026-01-01 03:00:00.123000','schedules created_by 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000');
INSERT INTO "schedules" VALUES('schedules id 1','db1:5432','shop','schedules name 1','drill','0 3 * * *','Europe/Berlin','schedules notes 1',1,'2026-01-02 03:00:00.123000','schedules created_by 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000');
INSERT INTO "schedules" VALUES('schedules id 2','db1:5432','shop','schedules name 2','scrub','0 3 * * *','Europe/Berlin','schedules notes 2',1,'2026-01-03 03:00:00.123000','schedules created_by 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000');
CREATE TABLE seen_databases (
	server VARCHAR(255) NOT NULL, 
	"database" VARCHAR(255) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_seen_databases PRIMARY KEY (server, "database")
);
INSERT INTO "seen_databases" VALUES('db1:5432','shop','2026-01-01 03:00:00.123000');
INSERT INTO "seen_databases" VALUES('db1:5432','crm','2026-01-02 03:00:00.123000');
INSERT INTO "seen_databases" VALUES('db1:5432','wiki','2026-01-03 03:00:00.123000');
CREATE TABLE sign_in_throttles (
	key_sha256 VARCHAR(64) NOT NULL, 
	failures INTEGER NOT NULL, 
	last_failure_at DATETIME NOT NULL, 
	CONSTRAINT pk_sign_in_throttles PRIMARY KEY (key_sha256)
);
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 0',1,'2026-01-01 03:00:00.123000');
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 1',2,'2026-01-02 03:00:00.123000');
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 2',3,'2026-01-03 03:00:00.123000');
CREATE TABLE uploads (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	size BIGINT NOT NULL, 
	notes TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_uploads PRIMARY KEY (id)
);
INSERT INTO "uploads" VALUES('uploads id 0','uploads name 0',1,'uploads notes 0','2026-01-01 03:00:00.123000','uploads created_by 0');
INSERT INTO "uploads" VALUES('uploads id 1','uploads name 1',2,'uploads notes 1','2026-01-02 03:00:00.123000','uploads created_by 1');
INSERT INTO "uploads" VALUES('uploads id 2','uploads name 2',3,'uploads notes 2','2026-01-03 03:00:00.123000','uploads created_by 2');
CREATE TABLE workers (
	id VARCHAR(255) NOT NULL, 
	started_at DATETIME NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (id)
);
INSERT INTO "workers" VALUES('workers id 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000');
INSERT INTO "workers" VALUES('workers id 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000');
INSERT INTO "workers" VALUES('workers id 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000');
CREATE INDEX ix_sign_in_throttles_last_failure_at ON sign_in_throttles (last_failure_at);
CREATE INDEX ix_admin_sessions_admin_id ON admin_sessions (admin_id);
CREATE INDEX ix_proofs_of_backup ON proofs (backup_id, proved_at);
CREATE INDEX ix_schedules_due ON schedules (next_due_at);
CREATE INDEX ix_schedules_reckoned ON schedules (reckoned_at);
CREATE INDEX ix_schedule_firings_open ON schedule_firings (outcome, next_attempt_at);
CREATE INDEX ix_database_backups_newest ON database_backups (created_at, id);
CREATE UNIQUE INDEX uq_database_backups_one_pending ON database_backups (server, "database") WHERE status = 'PENDING';
CREATE UNIQUE INDEX uq_restores_one_pending ON restores (status) WHERE status = 'PENDING';
CREATE INDEX ix_restores_newest ON restores (created_at, id);
CREATE INDEX ix_audit_entries_actor ON audit_entries (actor, id);
CREATE INDEX ix_audit_entries_action ON audit_entries (action, id);
CREATE INDEX ix_audit_entries_outcome ON audit_entries (outcome, id);
CREATE INDEX ix_audit_entries_origin ON audit_entries (origin, at);
CREATE TRIGGER audit_entries_no_update BEFORE UPDATE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never changed or deleted'); END;
CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never changed or deleted'); END;
CREATE INDEX ix_database_backups_of_status ON database_backups (status, created_at, id);
CREATE INDEX ix_database_backups_of_database ON database_backups (status, server, "database", created_at);
CREATE INDEX ix_database_backups_of_trigger ON database_backups (status, "trigger", size);
CREATE INDEX ix_proofs_of_level ON proofs (level, result, backup_id, proved_at);
COMMIT;
