"""Hints for the messages of libpq and the server."""

REFUSALS = (
    r"password authentication failed|no password supplied|authentication failed"
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects|role .* does not exist|is not permitted to log in"
    r"|certificate|SSL error"
)
# The first pattern that matches counts.
HINTS = (
    (
        r"conflict with recovery",
        (
            "A standby ends sessions that delay its recovery: raise max_standby_streaming_delay,"
            " set hot_standby_feedback, or back up the primary."
        ),
    ),
    (
        r"too many connections for (role|database)",
        "Raise the CONNECTION LIMIT of that role or database: ALTER ROLE, ALTER DATABASE.",
    ),
    (
        r"invalid memory alloc request size",
        (
            "A row is larger than the server can send: 1 GB as text, so 512 MB of bytea. Split it,"
            " or keep it as a large object."
        ),
    ),
    (
        r"SSL SYSCALL|connection has been closed unexpectedly|terminating connection",
        "The server or the network ended the connection; the server's log may say why.",
    ),
    (
        r"password authentication failed|no password supplied|authentication failed",
        (
            "Check the user and the password in the database's URL (special characters"
            " percent-encoded)."
        ),
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "The server's pg_hba.conf does not let this user in from here, or asks for TLS.",
    ),
    (
        r"database .* does not exist|no such database",
        "Check the database's name in its URL; psql --list shows those of the server.",
    ),
    (
        r"does not have CONNECT privilege|not currently accepting connections",
        "Let the role in: GRANT CONNECT ON DATABASE; or ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    (r"is not permitted to log in", "Let the role sign in: ALTER ROLE … LOGIN."),
    (r"role .* does not exist", "Check the user in the database's URL."),
    (
        r"could not translate host name|Name or service not known|nodename nor servname",
        "Check the host in the database's URL, and that this machine can resolve it.",
    ),
    (
        (
            r"Connection refused|No such file or directory|could not connect|Connection timed out"
            r"|timeout expired|No route to host|server closed the connection|Connection reset"
        ),
        "Is the server running, and does a firewall let this machine through to its port?",
    ),
    (
        r"remaining connection slots|too many clients|too many connections",
        "The server has no connection left; raise max_connections or end idle sessions.",
    ),
    (
        r"out of shared memory",
        "A dump locks every table: raise max_locks_per_transaction on the server.",
    ),
    (r"starting up|shutting down|recovery mode", "The server is not ready yet; try again soon."),
    (r"certificate|SSL", "Check sslmode and the certificates; see docs/troubleshooting.md."),
    (
        r"permission denied for large object",
        (
            "Large objects are not covered by pg_read_all_data: GRANT SELECT ON LARGE OBJECT,"
            " or let their owner make the backup."
        ),
    ),
    (
        r"permission denied",
        "Grant the role what it lacks; to read all tables for a backup there is pg_read_all_data.",
    ),
)
