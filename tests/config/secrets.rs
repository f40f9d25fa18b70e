//! No secret is ever shown, and no text makes the reader panic.

use proptest::prelude::*;
use trunkline::config::load;

use super::machine::Machine;

/// Everything that a configuration ever shows of itself.
fn everything_shown(file: &str) -> String {
    let machine = Machine::new(&[("NODE_ENV", "production")]).file(".env.production", file);
    match load(&machine.variables, &machine) {
        Ok((config, warnings)) => {
            format!("{config:?}{config:#?}{}{warnings:?}", config.effective())
        }
        Err(errors) => format!("{errors}{errors:?}"),
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn no_password_is_ever_shown(
        first in "[A-Z][a-zA-Z0-9]{9}",
        between in "[ -~]{0,4}",
        second in "[A-Z][a-zA-Z0-9]{9}",
        scheme in "(postgres|redis|rediss|unix|mysql|postgre s|)",
        place in "(h|h:1|h:x|\\[::1|h,i:2|:|)(/d|/%|/1|)",
        query in "(|\\?sslmode=on|\\?password=PW|\\?pass%77ord=PW&port=x|\\?PW|\\?a=PW@h)",
        encoded in any::<bool>(),
        quote in "['`]",
    ) {
        let between: String = between.replace(['\'', '`'], "");
        let password = format!("{first}{between}{second}");
        let written = if encoded { percent_encoded(&password) } else { password.clone() };
        let query = query.replace("PW", &written);
        let url = format!("{scheme}://u:{written}@{place}{query}");
        for name in [
            "DB_PASS", "PGPASSWORD", "REDIS_PASSWORD", "DATABASE_URL", "REDIS_URL",
        ] {
            let value = if name.ends_with("_URL") { &url } else { &password };
            let shown = everything_shown(&format!("{name}={quote}{value}{quote}"));
            for part in [&first, &second] {
                prop_assert!(!shown.contains(part.as_str()), "{name}={value}\n{shown}");
                let part = percent_encoded(part);
                prop_assert!(!shown.contains(&part), "{name}={value}\n{shown}");
            }
        }
        let sentinel = format!(
            "REDIS_SENTINELS=s\nREDIS_SENTINEL_MASTER=m\n\
             REDIS_SENTINEL_PASSWORD={quote}{password}{quote}"
        );
        prop_assert!(!everything_shown(&sentinel).contains(first.as_str()));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        names in proptest::collection::vec(
            "(PORT|BIND|SOCKET|TRUSTED_PROXY_IP|DATABASE_URL|DB_HOST|DB_PORT|REDIS_URL|\
             REDIS_SENTINELS|REDIS_SENTINEL_MASTER|TRUNKLINE_CPUS|TRUNKLINE_DRAIN_SECS|\
             TRUNKLINE_PING_INTERVAL_SECS)",
            1..4,
        ),
        value in "((postgres|redis|unix)://)?[0-9a-z:/@?=&,%\\[\\]. é#-]{0,24}",
    ) {
        let lines: Vec<String> = names.iter().map(|name| format!("{name}='{value}'")).collect();
        everything_shown(&lines.join("\n"));
    }
}
