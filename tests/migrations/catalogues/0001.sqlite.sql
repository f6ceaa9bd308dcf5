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
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE database_backups (
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
	CONSTRAINT pk_database_backups PRIMARY KEY (id), 
	CONSTRAINT uq_database_backups_filename UNIQUE (filename)
);
INSERT INTO "database_backups" VALUES('database_backups id 0','backup_2026-01-01T03-00-00-123Z.dump',1,'COMPLETED','2026-01-01 03:00:00.123000','database_backups notes 0','db1:5432','shop','cli','database_backups created_by 0','2026-01-01 03:00:00.123000','2026-01-01 03:00:00.123000','database_backups claimed_by 0',NULL,NULL,'database_backups sha256 0','atabase_backups server_version 0','database_backups tool_version 0','database_backups compression 0',17,'database_backups error_message 0','database_backups error_detail 0','database_backups error_hint 0','database_backups log 0');
INSERT INTO "database_backups" VALUES('database_backups id 1','backup_2026-01-01T03-01-00-123Z.dump',2,'COMPLETED','2026-01-02 03:00:00.123000','database_backups notes 1','db1:5432','shop','cli','database_backups created_by 1','2026-01-02 03:00:00.123000','2026-01-02 03:00:00.123000','database_backups claimed_by 1',NULL,NULL,'database_backups sha256 1','atabase_backups server_version 1','database_backups tool_version 1','database_backups compression 1',17,'database_backups error_message 1','database_backups error_detail 1','database_backups error_hint 1','database_backups log 1');
INSERT INTO "database_backups" VALUES('database_backups id 2','backup_2026-01-01T03-02-00-123Z.dump',3,'FAILED','2026-01-03 03:00:00.123000','database_backups notes 2','db1:5432','shop','cli','database_backups created_by 2','2026-01-03 03:00:00.123000','2026-01-03 03:00:00.123000','database_backups claimed_by 2',NULL,NULL,'database_backups sha256 2','atabase_backups server_version 2','database_backups tool_version 2','database_backups compression 2',17,'database_backups error_message 2','database_backups error_detail 2','database_backups error_hint 2','database_backups log 2');
CREATE TABLE sign_in_throttles (
	key_sha256 VARCHAR(64) NOT NULL, 
	failures INTEGER NOT NULL, 
	last_failure_at DATETIME NOT NULL, 
	CONSTRAINT pk_sign_in_throttles PRIMARY KEY (key_sha256)
);
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 0',1,'2026-01-01 03:00:00.123000');
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 1',2,'2026-01-02 03:00:00.123000');
INSERT INTO "sign_in_throttles" VALUES('sign_in_throttles key_sha256 2',3,'2026-01-03 03:00:00.123000');
CREATE INDEX ix_database_backups_newest ON database_backups (created_at, id);
CREATE UNIQUE INDEX uq_database_backups_one_pending ON database_backups (server, "database") WHERE status = 'PENDING';
CREATE INDEX ix_sign_in_throttles_last_failure_at ON sign_in_throttles (last_failure_at);
CREATE INDEX ix_admin_sessions_admin_id ON admin_sessions (admin_id);
COMMIT;
