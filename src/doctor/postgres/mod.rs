//! Postgres: is it there, has it room for the pool, and is everything there that is read?

mod conversation;
mod judge;
mod schema;

pub use judge::{Column, Facts, Index, judge};

use crate::config::{Limits, PostgresConfig};
use crate::protocol::postgres::{Malformed, Parameter, Row, Statement};

use self::conversation::Conversation;
use super::finding::{Area, Finding, Subject, Verdict};

/// About the server: version, room for connections, connections of clients now, a standby?, and the
/// process that answers.
const SERVER: &str = "\
select current_setting('server_version_num')::int4, current_setting('max_connections')::int4,
       current_setting('superuser_reserved_connections')::int4,
       (select count(*) from pg_stat_activity where backend_type = 'client backend')::int4,
       pg_is_in_recovery(), pg_backend_pid()::int4";

/// `$1`: names of tables. Every column, and whether we may read it.
const COLUMNS: &str = "\
select t.name::text, a.attname::text, format_type(a.atttypid, null)::text,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
from unnest($1) t(name)
join pg_attribute a on a.attrelid = to_regclass(t.name) and a.attnum > 0 and not a.attisdropped";

/// `$1`: names of tables. The key columns of every index that covers the whole table.
const INDEXES: &str = "\
select t.name::text,
       array(select a.attname::text
             from unnest(i.indkey::int2[]) with ordinality k(number, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
             order by k.place)::text[]
from unnest($1) t(name)
join pg_index i on i.indrelid = to_regclass(t.name)
where i.indisvalid and i.indpred is null and i.indexprs is null";

/// Asks Postgres, and judges what it says.
pub(super) fn findings(
    config: &PostgresConfig,
    limits: &Limits,
    server_runs: bool,
) -> Vec<Finding> {
    let reached = Subject::new(
        Area::Postgres,
        "connection",
        "without Postgres nobody can log in, and filtered events are withheld",
    )
    .should("reachable with what the environment says");
    match ask(config, limits, server_runs) {
        Ok(facts) => {
            let mut findings = vec![reached.is("stands").fine()];
            findings.extend(judge(&facts));
            findings
        }
        Err(reason) => {
            let command =
                "is Postgres up, and are DB_* or DATABASE_URL right? trunkline check-config";
            vec![reached.is(reason).needs(Verdict::Broken, command)]
        }
    }
}

fn ask(config: &PostgresConfig, limits: &Limits, server_runs: bool) -> Result<Facts, String> {
    let mut postgres = Conversation::open(config, limits)?;
    // While the first is idle, a pooler that shares connections gives the second the same process.
    let mut second = Conversation::open(config, limits)?;
    let server = |conversation: &mut Conversation| {
        let rows = conversation.ask(&Statement { sql: SERVER, parameters: Vec::new() })?;
        let row = rows.first().ok_or("the server says nothing about itself")?;
        read_server(row).map_err(|malformed| malformed.to_string())
    };
    let one = server(&mut postgres)?;
    let other = server(&mut second)?;
    let mut about_tables = |sql: &'static str| {
        let parameters = vec![Parameter::TextArray(schema::names())];
        postgres.ask(&Statement { sql, parameters })
    };
    let columns: Result<Vec<Column>, Malformed> =
        about_tables(COLUMNS)?.iter().map(read_column).collect();
    let indexes: Result<Vec<Index>, Malformed> =
        about_tables(INDEXES)?.iter().map(read_index).collect();
    Ok(Facts {
        version: one.version,
        connections_max: one.connections_max,
        connections_reserved: one.connections_reserved,
        // The two of ours are gone in a moment.
        connections_now: (other.connections_now - 2).max(0),
        is_standby: one.is_standby,
        is_pooled: one.pid == other.pid,
        columns: columns.map_err(|malformed| malformed.to_string())?,
        indexes: indexes.map_err(|malformed| malformed.to_string())?,
        pool_size: config.pool_size,
        server_runs,
        application_name: config.application_name.clone(),
        user: config.user.clone(),
    })
}

struct Server {
    version: i32,
    connections_max: i32,
    connections_reserved: i32,
    connections_now: i32,
    is_standby: bool,
    pid: i32,
}

fn read_server(row: &Row) -> Result<Server, Malformed> {
    let mut columns = row.columns();
    Ok(Server {
        version: columns.int4()?.unwrap_or(0),
        connections_max: columns.int4()?.unwrap_or(0),
        connections_reserved: columns.int4()?.unwrap_or(0),
        connections_now: columns.int4()?.unwrap_or(0),
        is_standby: columns.bool()?.unwrap_or(false),
        pid: columns.int4()?.unwrap_or(0),
    })
}

fn read_column(row: &Row) -> Result<Column, Malformed> {
    let mut columns = row.columns();
    Ok(Column {
        table: columns.text()?.unwrap_or_default().to_owned(),
        name: columns.text()?.unwrap_or_default().to_owned(),
        kind: columns.text()?.unwrap_or_default().to_owned(),
        readable: columns.bool()?.unwrap_or(false),
    })
}

fn read_index(row: &Row) -> Result<Index, Malformed> {
    let mut columns = row.columns();
    let table = columns.text()?.unwrap_or_default().to_owned();
    let names = columns.texts()?.unwrap_or_default();
    Ok(Index { table, columns: names.into_iter().map(str::to_owned).collect() })
}
