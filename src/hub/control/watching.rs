//! Readiness: who asks for it, and what the control core looks at by itself.

use std::sync::Arc;

use super::questions::Asked;
use super::{Control, Effect};
use crate::hub::message::QuestionId;
use crate::hub::question::Question;
use crate::hub::readiness::{Report, Upstreams};

/// What waits for a report.
#[derive(Default)]
pub(super) struct Watching {
    /// Clients who asked, by shard.
    waiting: Vec<(usize, QuestionId)>,
    /// Something has changed, or it is time.
    is_due: bool,
}

impl Control {
    /// How things stand, given what only the surroundings see.
    pub fn report(&mut self, mut upstreams: Upstreams) -> Report {
        // Whatever else is answered: without look-ups nobody can be let in.
        upstreams.postgres_connected &= !self.questions.is_silent();
        let channels = (self.interest.wanted(), self.interest.joined());
        self.readiness.report(upstreams, channels, self.now)
    }

    /// A client wants to know.
    pub(super) fn want_report(&mut self, shard: usize, question: QuestionId) {
        self.watching.waiting.push((shard, question));
        self.watching.is_due = true;
    }

    /// Something has happened that the report shows.
    pub(super) fn report_if(&mut self, is_news: bool) {
        self.watching.is_due |= is_news;
    }

    /// Looks for signs of life, if it is time.
    pub(super) fn look_around(&mut self) {
        if self.now >= self.readiness.next_look() {
            self.watching.is_due = true;
            if self.readiness.look(self.now) {
                self.ask(Asked::Probe, Question::StillValid(Arc::from([])));
            }
            // A shard that does not turn any more hands nothing in.
            self.render_if_complete();
        }
        if std::mem::take(&mut self.watching.is_due) {
            let waiting = std::mem::take(&mut self.watching.waiting);
            self.effects.push(Effect::Report { waiting });
        }
    }
}
