//! The files in `tuning/` are fit to be installed: what the programs that read them say of them.

#![allow(clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Fixture, Postgres, Redis, ServerBuilder, WebSocket, World, status};
use trunkline::hub::farewell::{Close, Farewell};

fn tuning(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(tuning(name)).unwrap_or_else(|error| panic!("tuning/{name}: {error}"))
}

/// `NAME = VALUE` of a sysctl file, those that are commented out included.
fn parameters(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let pairs = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn every_kernel_parameter_exists_and_has_as_many_values_as_it_should() {
    let parameters = parameters(&text("sysctl.d/60-trunkline.conf"));
    assert!(parameters.len() >= 10, "{parameters:?}");
    for (name, value) in parameters {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // Tracking may not be loaded.
        let Ok(now) = fs::read_to_string(&path) else {
            assert!(name.contains("conntrack"), "{path} is not there");
            continue;
        };
        let count = now.split_whitespace().count();
        // A list of ports may be empty.
        let is_list = name.ends_with("reserved_ports");
        assert!(is_list || value.split_whitespace().count() == count, "{name} = {value}");
    }
}

#[test]
fn the_unit_grants_what_the_doctor_asks_for() {
    let unit = text("trunkline.service");
    for line in ["LimitNOFILE=1048576", "LimitMEMLOCK=infinity", "RuntimeDirectory=trunkline"] {
        assert!(unit.lines().any(|found| found == line), "{line} is missing");
    }
    // What the server tells systemd (tests/readiness/notified.rs) is heard and acted on.
    for line in ["Type=notify", "WatchdogSec=30", "Restart=always"] {
        assert!(unit.lines().any(|found| found == line), "{line} is missing");
    }
    assert!(unit.contains("TRUNKLINE_PIN=always") && !unit.contains("~@resources"));
    let refused = unit.lines().find(|line| line.starts_with("SystemCallFilter=~"));
    let refused = refused.expect("a list of what is refused");
    assert!(!refused.contains("@resources") && !refused.contains("@memlock"), "{refused}");
}

#[test]
fn the_profile_for_containers_allows_the_rings_and_nothing_that_leaves_the_container() {
    let profile: Value = serde_json::from_str(&text("seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let entries = profile["syscalls"].as_array().expect("entries");
    let mut allowed = BTreeSet::new();
    for entry in entries {
        assert_eq!(entry["action"], "SCMP_ACT_ALLOW");
        for name in entry["names"].as_array().expect("names") {
            let name = name.as_str().expect("a name");
            assert!(allowed.insert(name), "{name} is named twice");
        }
    }
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "sched_setaffinity"] {
        assert!(allowed.contains(name), "{name}");
    }
    for name in ["mount", "unshare", "setns", "ptrace", "bpf", "init_module", "keyctl", "reboot"] {
        assert!(!allowed.contains(name), "{name}");
    }
}

#[test]
fn the_server_runs_and_pins_under_the_profile_for_containers() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let user = Fixture { database: &database }.user(1);
    let launcher = format!("{}/tests/tuning/profile.py", env!("CARGO_MANIFEST_DIR"));
    let profile = tuning("seccomp.json").display().to_string();
    let mut server = ServerBuilder::new(&redis, &database)
        .env("TRUNKLINE_PIN", "always")
        .through(&["python3", &launcher, &profile])
        .start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=user"));
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    assert!(!server.log().contains(r#""level":"warn""#), "{}", server.log());
    let pid = server.process().id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    assert!(status.contains("Seccomp:\t2"), "no filter is active");
}

#[test]
fn nginx_takes_the_configuration_where_it_is_installed() {
    let directory = support::process::scratch("nginx");
    let home = directory.path().display().to_string();
    let file = directory.path().join("nginx.conf");
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|name| format!("{name}_temp_path {home}/{name};"));
    let own = format!("http {{ access_log off; {}", places.join(" "));
    let conf = text("nginx.conf").replace("http {", &own).replace("1048576", "1024");
    let conf = conf.replace("262144", "512");
    let conf = format!("pid {home}/pid; error_log {home}/log;\n{conf}");
    fs::write(&file, conf).expect("write the configuration");
    let mut nginx = Command::new("/usr/sbin/nginx");
    let output = nginx.args(["-t", "-p", &home, "-c"]).arg(&file).output().expect("run nginx");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn whatever_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = [text("promises.md"), text("README.md"), text("../README.md")].concat();
    let folders = ["tests/", "src/", "scripts/", "benches/", "tuning/"];
    let mut named = 0;
    for word in quoted(&pages).filter_map(|words| words.split([' ', ':', ',', '\n']).next()) {
        if folders.iter().any(|folder| word.starts_with(folder)) {
            assert!(root.join(word).exists(), "{word} is not there");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
    for link in pages.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let path = link.split('#').next().unwrap_or_default();
        let is_here = [root.to_path_buf(), tuning("")].iter().any(|at| at.join(path).exists());
        assert!(link.contains("://") || is_here, "{link} leads nowhere");
    }
}

#[test]
fn every_metric_that_the_pages_name_is_served() {
    let pages = [text("promises.md"), text("README.md"), text("../README.md")].concat();
    let world = World::start();
    let metrics = world.server.get("/metrics").text();
    let names = quoted(&pages).filter_map(|words| words.split(['{', ' ']).next());
    let names: BTreeSet<&str> = names
        .filter(|name| !name.ends_with('*'))
        .filter(|name| {
            ["trunkline_", "process_", "connected_"].iter().any(|of| name.starts_with(of))
        })
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} is not served");
    }
}

/// The rows of the table of the page on which these words stand in the first cell.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn the_page_of_promises_names_every_farewell_with_its_code() {
    let page = text("promises.md");
    for farewell in Farewell::EACH {
        let name = format!("`{}`", farewell.reason());
        let row = rows(&page).find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is missing"));
        let code = match farewell.close() {
            Close::Code(code, _) => code.to_string(),
            Close::WithoutCode => "none (1005)".into(),
            Close::Silent => "–".into(),
        };
        assert_eq!(row[1], code, "{name}");
    }
}

#[test]
fn each_section_of_the_promises_has_its_line_in_the_table() {
    let page = text("promises.md");
    let mut count = 0;
    for section in page.split("\n## ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        let Some(number) = title.strip_suffix(')').and_then(|title| title.split("(R").nth(1))
        else {
            continue;
        };
        count += 1;
        let name = format!("R{number}");
        let row = rows(&page).find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{name} has no line"));
        assert!(row.len() == 5 && row[1].contains(&format!("-{}", name.to_lowercase())), "{row:?}");
        let is_filled = row.iter().all(|cell| !cell.is_empty());
        assert!(!is_filled || !body.trim().is_empty(), "figures without a section: {row:?}");
    }
    assert!(count >= 15, "{count}");
}
