"""Kuma's columns in MariaDB, as data: what a leader on SQLite compares its rows with.

They are those of Uptime Kuma 2.3.2 (tests/schemas/2.3-mariadb.sql). Columns of other versions are
not listed: of these, only the declared type in SQLite is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from replicator_kuma.dump.schema import Column

UNIQUE: Mapping[str, str] = {
    "user": "username",
    "setting": "key",
    "status_page": "slug",
    "status_page_cname": "domain",
}
"""Each table's UNIQUE text column; primary keys are not listed."""

_DATA = """
user
    int(10) unsigned: id!
    varchar(255) utf8mb3: username!
    varchar(255): password
    tinyint(1): active! twofa_status!
    varchar(150): timezone
    varchar(64): twofa_secret
    varchar(6): twofa_last_token
setting
    int(10) unsigned: id!
    varchar(200) utf8mb3: key!
    text: value
    varchar(20): type
proxy
    int(10) unsigned: id! user_id!
    varchar(10): protocol!
    varchar(255): host! username password
    int(11): port
    tinyint(1): auth! active! default!
    datetime: created_date!
docker_host
    int(10) unsigned: id! user_id!
    varchar(255): docker_daemon docker_type name
remote_browser
    int(10) unsigned: id! user_id
    varchar(255): name! url!
notification
    int(10) unsigned: id! user_id
    varchar(255): name
    tinyint(1): active! is_default!
    longtext: config
tag
    int(10) unsigned: id!
    varchar(255): name! color!
    datetime: created_date!
status_page
    int(10) unsigned: id! auto_refresh_interval
    varchar(255) utf8mb3: slug!
    varchar(255): title! icon! password analytics_id analytics_script_url rss_title
    text: description footer_text custom_css
    varchar(30): theme!
    tinyint(1): published! search_engine_index! show_tags! show_powered_by!
        show_certificate_expiry! show_only_last_heartbeat!
    datetime: created_date! modified_date!
    enum('google','umami','plausible','matomo'): analytics_type
status_page_cname
    int(10) unsigned: id! status_page_id
    varchar(255) utf8mb3: domain!
group
    int(10) unsigned: id! status_page_id
    varchar(255): name!
    datetime: created_date!
    tinyint(1): public! active!
    int(11): weight!
incident
    int(10) unsigned: id! status_page_id
    varchar(255): title!
    text: content!
    varchar(30): style!
    datetime: created_date! last_updated_date
    tinyint(1): pin! active!
maintenance
    int(10) unsigned: id! user_id
    varchar(150): title!
    text: description! days_of_month cron
    tinyint(1): active!
    varchar(50): strategy!
    datetime: start_date end_date last_start_date
    time: start_time end_time
    varchar(250): weekdays
    int(11): interval_day duration
    varchar(255): timezone
api_key
    int(10) unsigned: id! user_id!
    varchar(255): key! name!
    datetime: created_date! expires
    tinyint(1): active!
monitor
    int(10) unsigned: id! user_id docker_host proxy_id parent remote_browser
        screenshot_delay!
    varchar(150): name
    tinyint(1): active! ignore_tls! upside_down! expiry_notification
        grpc_enable_tls! invert_keyword! kafka_producer_ssl!
        kafka_producer_allow_auto_topic_creation! gamedig_given_port_only!
        cache_bust! ws_ignore_sec_websocket_accept_header! ping_numeric!
        domain_expiry_notification save_response! save_error_response!
        retry_only_on_status_code_failure!
    int(11): interval! weight port maxretries! maxredirects! retry_interval!
        resend_interval! packet_size! ping_count! ping_per_request_timeout!
        response_max_length!
    text: url accepted_statuscodes_json! dns_last_result method! body headers
        basic_auth_user basic_auth_pass mqtt_topic database_query auth_domain
        auth_workstation grpc_protobuf grpc_body grpc_metadata grpc_method
        grpc_service_name description tls_ca tls_cert tls_key json_path
        kafka_producer_brokers kafka_producer_sasl_options kafka_producer_message
        oauth_client_id oauth_client_secret oauth_token_url oauth_scopes
        oauth_auth_method conditions! rabbitmq_nodes
    varchar(20): type protocol
    varchar(255): hostname keyword dns_resolve_server docker_container
        mqtt_success_message mqtt_username mqtt_password grpc_url radius_username
        radius_password radius_secret game expected_value kafka_producer_topic
        mqtt_check_type! snmp_oid json_path_operator rabbitmq_username
        rabbitmq_password smtp_security ws_subprotocol! oauth_audience
        mqtt_websocket_path system_service_name location snmp_v3_username
    datetime: created_date!
    varchar(5): dns_resolve_type
    varchar(32): push_token
    varchar(2000): database_connection_string
    varchar(250): auth_method
    varchar(50): radius_calling_station_id radius_called_station_id
        expected_tls_alert
    varchar(25): http_body_encoding
    double: timeout!
    enum('1','2c','3'): snmp_version
    varchar(4): ip_family
    smallint(6): manual_status
    varchar(10): subtype
monitor_notification
    int(10) unsigned: id! monitor_id! notification_id!
monitor_tag
    int(10) unsigned: id! monitor_id! tag_id!
    text: value
monitor_group
    int(10) unsigned: id! monitor_id! group_id!
    int(11): weight!
    tinyint(1): send_url!
    text: custom_url
monitor_maintenance
    int(10) unsigned: id! monitor_id! maintenance_id!
maintenance_status_page
    int(10) unsigned: id! status_page_id! maintenance_id!
"""
"""Table, then its types with their columns; `!` is NOT NULL. Text is utf8mb4 unless it says so."""

_DECLARED = re.compile(r"\s*\w*CHAR\w*\s*\(\s*(\d+)\s*\)\s*", re.IGNORECASE | re.ASCII)


def _read() -> Mapping[str, Mapping[str, Column]]:
    tables: dict[str, dict[str, Column]] = {}
    table = kind = ""
    for line in _DATA.strip("\n").splitlines():
        words = line.strip()
        indent = len(line) - len(words)
        if not indent:
            table = words
            tables[table] = {}
            continue
        if indent == 4:
            kind, _, words = words.partition(": ")
        for word in words.split():
            column = _column(word.rstrip("!"), kind, notnull=word.endswith("!"))
            tables[table][column.name] = column
    return tables


def _column(name: str, kind: str, *, notnull: bool) -> Column:
    narrow = kind.endswith(" utf8mb3")
    kind = kind.removesuffix(" utf8mb3")
    is_text = kind.startswith(("varchar", "text", "longtext", "enum"))
    charset = ("utf8mb3" if narrow else "utf8mb4") if is_text else ""
    collation = f"{charset}_general_ci" if charset else ""
    return Column(name, kind, notnull, None, charset, collation)


COLUMNS: Mapping[str, Mapping[str, Column]] = _read()
"""Table → column → how Kuma makes it in MariaDB; no defaults."""


def in_mariadb(table: str, column: Column) -> Column | None:
    """What a column of SQLite is in Kuma's MariaDB; None where that is not known."""
    known = COLUMNS.get(table, {}).get(column.name)
    declared = _DECLARED.fullmatch(column.type)
    if known is not None or declared is None:
        return known
    return _column(column.name, f"varchar({declared[1]})", notnull=column.notnull)
