//! What Postgres' answers mean.

use super::super::finding::{Area, Finding, Subject, Verdict};
use super::schema::{Kind, TABLES, Table};

/// The oldest version that a Mastodon of today runs on, as `server_version_num`.
const VERSION_MIN: i32 = 12_00_00;

/// What Postgres has answered, and what we would ask of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// `max_connections`.
    pub connections_max: i32,
    /// `superuser_reserved_connections`.
    pub connections_reserved: i32,
    /// Connections of clients, without the doctor's.
    pub connections_now: i32,
    /// A standby: it lags behind.
    pub is_standby: bool,
    /// Two connections of ours were answered by one process: a pooler in transaction mode.
    pub is_pooled: bool,
    /// Columns of the tables that are read.
    pub columns: Vec<Column>,
    /// Indexes of the tables that are read.
    pub indexes: Vec<Index>,
    /// `DB_POOL`.
    pub pool_size: usize,
    /// A server runs: its pool is among the connections already.
    pub server_runs: bool,
    /// `application_name` of the URL.
    pub application_name: String,
    /// The role, for commands.
    pub user: String,
}

/// A column that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Our role may read it.
    pub readable: bool,
}

/// An index that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its table.
    pub table: String,
    /// Its columns, in order.
    pub columns: Vec<String>,
}

/// Every check.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        version(facts),
        connections(facts),
        pooler(facts),
        standby(facts),
        columns(facts),
        rights(facts),
        indexes(facts),
    ]
}

fn version(facts: &Facts) -> Finding {
    let (major, minor) = (facts.version / 10_000, facts.version % 10_000);
    Subject::new(Area::Postgres, "version", "older ones get no more corrections")
        .should(format!("{} or later", VERSION_MIN / 10_000))
        .is(format!("{major}.{minor}"))
        .unless(
            facts.version >= VERSION_MIN,
            Verdict::Change,
            "upgrade Postgres (pg_upgradecluster)",
        )
}

fn connections(facts: &Facts) -> Finding {
    let free = facts.connections_max - facts.connections_reserved - facts.connections_now;
    let free = usize::try_from(free).unwrap_or(0);
    let subject = Subject::new(
        Area::Postgres,
        "max_connections against DB_POOL",
        "a connection that the pool may have and the server has no room for is a log-in that \
         waits",
    )
    .should(format!("room for DB_POOL = {}", facts.pool_size));
    if facts.is_pooled {
        return subject.is("a pooler stands in between").fine();
    }
    let is = format!("{} at most, {} now", facts.connections_max, facts.connections_now);
    let most = facts.connections_max + i32::try_from(facts.pool_size).unwrap_or(0);
    let command = format!(
        "ALTER SYSTEM SET max_connections = {most} and restart Postgres; or a smaller DB_POOL; or \
         PgBouncer"
    );
    let is_fine = facts.server_runs && free > 0 || free >= facts.pool_size;
    subject.is(is).unless(is_fine, Verdict::Change, command)
}

fn pooler(facts: &Facts) -> Finding {
    let subject = Subject::new(
        Area::Postgres,
        "pooler and application_name",
        "a pooler in transaction mode has to set the name each time a connection changes hands",
    )
    .should("no application_name behind a pooler");
    let is = match (facts.is_pooled, facts.application_name.is_empty()) {
        (true, true) => "a pooler in transaction mode, no application_name",
        (true, false) => "a pooler in transaction mode, and an application_name",
        (false, _) => "none in transaction mode",
    };
    let is_fine = !facts.is_pooled || facts.application_name.is_empty();
    let command = "take application_name out of DATABASE_URL";
    subject.is(is).unless(is_fine, Verdict::Change, command)
}

fn standby(facts: &Facts) -> Finding {
    let subject = Subject::new(
        Area::Postgres,
        "primary or standby",
        "a standby lags: somebody who has just been blocked may still be seen",
    )
    .should("the primary");
    let is = if facts.is_standby { "a standby" } else { "the primary" };
    let command = "name the primary in DB_HOST or DATABASE_URL";
    subject.is(is).unless(!facts.is_standby, Verdict::Change, command)
}

/// Every column that is read, with its table.
fn wanted() -> impl Iterator<Item = (&'static Table, &'static str, Kind)> {
    TABLES
        .iter()
        .flat_map(|table| table.columns.iter().map(move |(name, kind)| (table, *name, *kind)))
}

fn find<'a>(facts: &'a Facts, table: &Table, name: &str) -> Option<&'a Column> {
    facts.columns.iter().find(|column| column.table == table.name && column.name == name)
}

fn columns(facts: &Facts) -> Finding {
    let mut wrong = Vec::new();
    for (table, name, kind) in wanted() {
        match find(facts, table, name) {
            None => wrong.push(format!("{}.{name} is missing", table.name)),
            Some(column) if !kind.names().contains(&column.kind.as_str()) => {
                wrong.push(format!("{}.{name} is {}", table.name, column.kind));
            }
            Some(_) => {}
        }
    }
    let subject = Subject::new(
        Area::Postgres,
        "tables and columns",
        "a statement that names a missing column fails each time: nobody can log in, or events are \
         withheld",
    )
    .should(format!("{} columns of {} tables", wanted().count(), TABLES.len()));
    if wrong.is_empty() {
        return subject.is(format!("all {} are there", wanted().count())).fine();
    }
    let command = "is DB_NAME Mastodon's database? Then: RAILS_ENV=production bin/rails db:migrate";
    subject.is(wrong.join(", ")).needs(Verdict::Broken, command)
}

fn rights(facts: &Facts) -> Finding {
    let mut tables: Vec<&str> = wanted()
        .filter(|(table, name, _)| find(facts, table, name).is_some_and(|column| !column.readable))
        .map(|(table, ..)| table.name)
        .collect();
    tables.dedup();
    let subject =
        Subject::new(Area::Postgres, "rights", "the server reads these tables, and writes none")
            .should("SELECT on each table");
    if tables.is_empty() {
        return subject.is("all may be read").fine();
    }
    let tables = tables.join(", ");
    let role = facts.user.replace('"', "\"\"");
    let command = format!("GRANT SELECT ON {tables} TO \"{role}\"");
    subject.is(format!("may not read {tables}")).needs(Verdict::Broken, command)
}

fn indexes(facts: &Facts) -> Finding {
    let mut missing = Vec::new();
    for table in TABLES.iter().filter(|table| find(facts, table, table.columns[0].0).is_some()) {
        for wanted in table.indexes {
            let serves = |index: &&Index| {
                let leading = index.columns.iter().map(String::as_str);
                index.table == table.name && leading.take(wanted.len()).eq(wanted.iter().copied())
            };
            if !facts.indexes.iter().any(|index| serves(&index)) {
                missing.push((table.name, wanted.join(", ")));
            }
        }
    }
    let subject = Subject::new(
        Area::Postgres,
        "indexes",
        "without them each log-in, or each event, reads a whole table",
    )
    .should("those of Mastodon's schema");
    if missing.is_empty() {
        return subject.is("all are there").fine();
    }
    let is: Vec<String> =
        missing.iter().map(|(table, columns)| format!("none on {table} ({columns})")).collect();
    let commands: Vec<String> = missing
        .iter()
        .map(|(table, columns)| format!("CREATE INDEX CONCURRENTLY ON {table} ({columns})"))
        .collect();
    subject.is(is.join(", ")).needs(Verdict::Change, commands.join(";\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let column = |(table, name, kind): (&Table, &str, Kind)| Column {
            table: table.name.to_owned(),
            name: name.to_owned(),
            kind: kind.names()[0].to_owned(),
            readable: true,
        };
        let index = |table: &Table, columns: &[&str]| Index {
            table: table.name.to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        let of_table =
            |table: &'static Table| table.indexes.iter().map(move |columns| index(table, columns));
        Facts {
            version: 15_00_19,
            connections_max: 100,
            connections_reserved: 3,
            connections_now: 40,
            is_standby: false,
            is_pooled: false,
            columns: wanted().map(column).collect(),
            indexes: TABLES.iter().flat_map(of_table).collect(),
            pool_size: 10,
            server_runs: false,
            application_name: String::new(),
            user: "mastodon".to_owned(),
        }
    }

    #[track_caller]
    fn assert_complains(facts: &Facts, verdict: Verdict, name: &str, command: &str) {
        let found: Vec<Finding> =
            judge(facts).into_iter().filter(|finding| finding.verdict != Verdict::Fine).collect();
        let [finding] = found.as_slice() else { panic!("not one complaint: {found:?}") };
        assert_eq!((finding.verdict, finding.name), (verdict, name));
        assert!(finding.command.contains(command), "{}", finding.command);
    }

    #[test]
    fn nothing_is_to_be_done_with_mastodons_schema_and_room_for_the_pool() {
        assert!(judge(&good()).iter().all(|finding| finding.verdict == Verdict::Fine));
    }

    #[test]
    fn each_fact_that_is_not_good_enough_is_named() {
        let change = Verdict::Change;
        let old = Facts { version: 11_00_22, ..good() };
        assert_complains(&old, change, "version", "upgrade");
        let standby = Facts { is_standby: true, ..good() };
        assert_complains(&standby, change, "primary or standby", "primary");
        let named = Facts { is_pooled: true, application_name: "streaming".to_owned(), ..good() };
        assert_complains(&named, change, "pooler and application_name", "application_name");
    }

    #[test]
    fn the_pool_must_find_room_unless_a_pooler_or_a_running_server_has_it() {
        let name = "max_connections against DB_POOL";
        let full = Facts { connections_now: 88, ..good() };
        assert_complains(&full, Verdict::Change, name, "max_connections = 110");
        let just = Facts { connections_now: 87, ..good() };
        let pooled = Facts { is_pooled: true, connections_now: 97, ..good() };
        let running = Facts { server_runs: true, connections_now: 96, ..good() };
        for fine in [just, pooled, running] {
            assert!(judge(&fine).iter().all(|finding| finding.verdict == Verdict::Fine));
        }
    }

    #[test]
    fn a_missing_column_a_wrong_type_and_a_missing_right_break_it() {
        let mut facts = good();
        facts.columns.retain(|column| column.name != "whole_word");
        assert_complains(&facts, Verdict::Broken, "tables and columns", "db:migrate");
        let mut facts = good();
        facts.columns[0].kind = "uuid".to_owned();
        assert_complains(&facts, Verdict::Broken, "tables and columns", "db:migrate");
        let mut facts = Facts { user: "str\"eam".to_owned(), ..good() };
        facts.columns[0].readable = false;
        let grant = "GRANT SELECT ON oauth_access_tokens TO \"str\"\"eam\"";
        assert_complains(&facts, Verdict::Broken, "rights", grant);
    }

    #[test]
    fn a_missing_index_is_named_and_a_longer_one_serves() {
        let mut facts = good();
        facts.indexes.retain(|index| index.table != "mutes");
        let command = "CREATE INDEX CONCURRENTLY ON mutes (target_account_id)";
        assert_complains(&facts, Verdict::Change, "indexes", command);
        let columns = ["target_account_id", "account_id"].map(str::to_owned).into();
        facts.indexes.push(Index { table: "mutes".to_owned(), columns });
        assert!(judge(&facts).iter().all(|finding| finding.verdict == Verdict::Fine));
    }
}
