//! What was found about one thing: what is, what should be, why, and the command to change it.

use serde::Serialize;

/// How bad it is, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It could not be looked at from here.
    Unknown,
    /// It works as it is; the change pays off on some hosts.
    Optional,
    /// Should be changed: something will be slow, or fail under load.
    Change,
    /// The server cannot do its work like this.
    Broken,
}

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// The environment and the environment file.
    Configuration,
    /// What the process may have and do.
    Process,
    /// The network stack.
    Network,
    /// Memory, processors, interfaces.
    Machine,
    /// Redis.
    Redis,
    /// Postgres.
    Postgres,
}

/// What was found about one thing. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where to look.
    pub area: Area,
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What is.
    pub is: String,
    /// What should be.
    pub should: String,
    /// The reason.
    pub why: &'static str,
    /// What to do; empty if nothing is to be done.
    pub command: String,
}

/// A finding whose verdict is still open.
pub(super) struct Subject {
    finding: Finding,
}

impl Subject {
    pub(super) fn new(area: Area, name: &'static str, why: &'static str) -> Subject {
        let (is, should, command) = (String::new(), String::new(), String::new());
        let verdict = Verdict::Unknown;
        Subject { finding: Finding { area, name, verdict, is, should, why, command } }
    }

    /// What is.
    pub(super) fn is(mut self, is: impl Into<String>) -> Subject {
        self.finding.is = is.into();
        self
    }

    /// What should be.
    pub(super) fn should(mut self, should: impl Into<String>) -> Subject {
        self.finding.should = should.into();
        self
    }

    /// Nothing is to be done.
    pub(super) fn fine(mut self) -> Finding {
        self.finding.verdict = Verdict::Fine;
        self.finding
    }

    /// It could not be looked at.
    pub(super) fn unknown(self, reason: impl Into<String>) -> Finding {
        self.is(reason).finding
    }

    /// Something is to be done.
    pub(super) fn needs(mut self, verdict: Verdict, command: impl Into<String>) -> Finding {
        self.finding.verdict = verdict;
        self.finding.command = command.into();
        self.finding
    }

    /// Fine if `holds`, else something is to be done.
    pub(super) fn unless(
        self,
        holds: bool,
        verdict: Verdict,
        command: impl Into<String>,
    ) -> Finding {
        if holds { self.fine() } else { self.needs(verdict, command) }
    }
}

/// The command that sets a kernel parameter now, and where it is set for good.
pub(super) fn sysctl(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {name}='{value}'   # for good: tuning/sysctl.d/60-trunkline.conf")
}

/// A number as people read it: 1,048,576.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576")] {
            assert_eq!(grouped(number), text);
        }
    }
}
