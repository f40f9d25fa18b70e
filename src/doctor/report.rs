//! All findings, readable and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::finding::{Area, Finding, Verdict, grouped};

/// All findings.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Our version.
    pub version: &'static str,
    /// How many clients the host is to hold.
    pub clients: u64,
    /// The worst verdict.
    pub verdict: Verdict,
    /// The running server whose limits were looked at.
    pub pid: Option<u32>,
    /// In the order of the areas.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Puts a report together.
    pub fn new(clients: u64, pid: Option<u32>, findings: Vec<Finding>) -> Report {
        let worst = findings.iter().map(|finding| finding.verdict).max();
        let verdict = worst.unwrap_or(Verdict::Fine);
        Report { version: env!("CARGO_PKG_VERSION"), clients, verdict, pid, findings }
    }

    /// For scripts: 0 if nothing has to be done, 1 if something should be changed, 2 if something
    /// is broken. What is optional or could not be looked at does not count.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Fine | Verdict::Unknown | Verdict::Optional => 0,
            Verdict::Change => 1,
            Verdict::Broken => 2,
        }
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        // A struct of strings and numbers can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// For people: a line for what is fine, all of it for what is not.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = grouped(self.clients);
        write!(
            formatter,
            "trunkline doctor {}, for {clients} clients (--clients N)",
            self.version
        )?;
        match self.pid {
            Some(pid) => writeln!(formatter, ", limits of the running server {pid}")?,
            None => writeln!(formatter, ", limits of this shell: no server runs")?,
        }
        let mut area = None;
        for finding in &self.findings {
            if area != Some(finding.area) {
                writeln!(formatter, "\n{}", title(finding.area))?;
                area = Some(finding.area);
            }
            show(formatter, finding)?;
        }
        writeln!(
            formatter,
            "\n{} fine, {} unknown, {} optional, {} to change, {} broken",
            self.count(Verdict::Fine),
            self.count(Verdict::Unknown),
            self.count(Verdict::Optional),
            self.count(Verdict::Change),
            self.count(Verdict::Broken),
        )
    }
}

fn show(formatter: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
    let Finding { name, verdict, is, should, why, command, .. } = finding;
    let mark = match verdict {
        Verdict::Fine => "ok",
        Verdict::Unknown => "unknown",
        Verdict::Optional => "optional",
        Verdict::Change => "CHANGE",
        Verdict::Broken => "BROKEN",
    };
    writeln!(formatter, "  {mark:<8}  {name}: {is}")?;
    if matches!(verdict, Verdict::Fine | Verdict::Unknown) {
        return Ok(());
    }
    for (label, text) in [("should be", should.as_str()), ("because", *why), ("do", command)] {
        for (place, line) in text.lines().enumerate() {
            let label = if place == 0 { label } else { "" };
            writeln!(formatter, "            {label:<9}  {line}")?;
        }
    }
    formatter.write_char('\n')
}

fn title(area: Area) -> &'static str {
    match area {
        Area::Configuration => "CONFIGURATION",
        Area::Process => "THE PROCESS AND ITS LIMITS",
        Area::Network => "NETWORK",
        Area::Machine => "MACHINE",
        Area::Redis => "REDIS",
        Area::Postgres => "POSTGRES",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Subject;
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let finding = |verdict: &Verdict| {
            let subject = Subject::new(Area::Machine, "thing", "it matters");
            subject.is("so").should("otherwise").needs(*verdict, "do it")
        };
        Report::new(1000, None, verdicts.iter().map(finding).collect())
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        use Verdict::{Broken, Change, Fine, Optional, Unknown};
        for (verdicts, code) in [
            (&[][..], 0),
            (&[Fine, Unknown, Optional], 0),
            (&[Change, Fine], 1),
            (&[Broken, Change, Fine], 2),
        ] {
            assert_eq!(report(verdicts).exit_code(), code, "{verdicts:?}");
        }
    }

    #[test]
    fn what_is_to_be_done_stands_with_its_reason_in_both_forms() {
        let report = report(&[Verdict::Change]);
        let text = report.to_string();
        for part in ["CHANGE", "thing: so", "otherwise", "it matters", "do it", "1 to change"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["verdict"], "change");
        assert_eq!(json["findings"][0]["command"], "do it");
        assert_eq!(json["findings"][0]["area"], "machine");
    }
}
