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

/// The pages for people, from the root.
const PAGES: [&str; 5] = [
    "README.md",
    "tuning/README.md",
    "tuning/promises.md",
    "tuning/measured.md",
    "tuning/io_uring.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each page with its path.
fn pages() -> impl Iterator<Item = (&'static Path, String)> {
    PAGES.iter().map(|page| {
        let text = fs::read_to_string(root().join(page));
        (Path::new(page), text.unwrap_or_else(|error| panic!("{page}: {error}")))
    })
}

/// What stands in backticks, blocks of code included.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn whatever_the_pages_name_is_there() {
    let folders = ["tests/", "src/", "scripts/", "benches/", "tuning/"];
    let mut named = 0;
    for (page, text) in pages() {
        for word in quoted(&text).flat_map(str::split_whitespace) {
            let path = word.split([':', ',', ';']).next().unwrap_or_default();
            if folders.iter().any(|folder| path.starts_with(folder)) {
                assert!(root().join(path).exists(), "{}: {path} is not there", page.display());
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named}");
}

/// The names under which the headings of a page can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if let Some(title) = line.strip_prefix('#').filter(|_| !is_code) {
            let title = title.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut followed = 0;
    for (page, text) in pages() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(page),
                path => root().join(page).with_file_name(path),
            };
            let link = format!("{}: {link}", page.display());
            assert!(target.exists(), "{link} leads nowhere");
            if !anchor.is_empty() {
                let target = fs::read_to_string(&target).expect("a page");
                assert!(anchors(&target).contains(anchor), "{link} has no such heading");
            }
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every function of the tests and of the unit tests, with the file that it stands in.
fn functions() -> Vec<(PathBuf, String)> {
    let mut functions = Vec::new();
    for path in ["tests", "src"].iter().flat_map(|folder| rust_files(&root().join(folder))) {
        let text = fs::read_to_string(&path).expect("a source file");
        for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")) {
            let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = line[..end.unwrap_or(line.len())].to_owned();
            functions.push((path.clone(), name));
        }
    }
    functions
}

/// Whether the page means this function; `…` stands for what it leaves out.
fn is_meant(form: &str, name: &str) -> bool {
    let Some((first, rest)) = form.split_once('…') else { return form == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, behind)) = name.split_once(piece) else { return false };
        name = behind;
    }
    name.ends_with(last)
}

/// Names of tests are sentences; metrics and settings are shorter.
fn is_name_of_a_test(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c);
    let words = word.matches('_').count();
    let is_long = words >= 4 && !word.starts_with("trunkline_");
    word.chars().all(is_plain) && (is_long || words >= 1 && word.contains('…'))
}

#[test]
fn every_test_that_the_pages_name_is_there() {
    let functions = functions();
    let mut named = 0;
    for (page, text) in pages() {
        for words in quoted(&text) {
            let mut file = None;
            for word in words.split_whitespace() {
                if let Some(path) = word.strip_suffix(".rs:") {
                    file = Some(root().join(path).with_extension("rs"));
                } else if let Some(module) = word.strip_suffix("::…") {
                    let name = format!("{module}.rs");
                    let is_there = functions.iter().any(|(path, _)| path.ends_with(&name));
                    assert!(is_there, "{}: there is no {word}", page.display());
                } else if is_name_of_a_test(word) {
                    let is_here = |path: &Path| file.as_deref().is_none_or(|file| file == path);
                    let mut places = functions.iter().filter(|(path, _)| is_here(path));
                    let is_there = places.any(|(_, name)| is_meant(word, name));
                    assert!(is_there, "{}: there is no {word} in {words}", page.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn names_that_are_cut_short_are_still_told_apart() {
    for (form, name, expected) in [
        ("a_thousand…", "a_thousand_readers", true),
        ("…of_their_own…", "readers_of_their_own_streams", true),
        ("…_is_interrupted", "nothing_is_lost_however_one_is_interrupted", true),
        ("a_thousand…", "not_a_thousand", false),
        ("a_thousand", "a_thousand_readers", false),
        ("…_is_interrupted", "nothing_is_lost", false),
    ] {
        assert_eq!(is_meant(form, name), expected, "{form} {name}");
    }
    let text = "# The `first`: HTTP/1.1\n```sh\n# no heading\n```\n";
    assert_eq!(anchors(text), BTreeSet::from(["the-first-http11".to_owned()]));
}

#[test]
fn every_metric_that_the_pages_name_is_served() {
    let world = World::start();
    let metrics = world.server.get("/metrics").text();
    let text: String = pages().map(|(_, text)| text).collect();
    let names = quoted(&text).filter_map(|words| words.split(['{', ' ']).next());
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
