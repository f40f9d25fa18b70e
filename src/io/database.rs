//! The control core's only way to the database: questions go in, answers come out of a later turn.
//! The trait is what the simulator and the tests put a table in memory behind.

use crate::hub::moment::Moment;
use crate::hub::question::{Answer, Question, Unanswered};
use crate::io::poller::{Poller, Readiness};

/// The asker's own mark on a question; comes back with its answer. The database never looks inside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Something that answers questions, turned by the thread that owns it. Nothing here blocks.
pub trait Database {
    /// Takes a question. Its answer, or why there is none, comes out of a later [`Database::turn`]
    /// with the same ticket: exactly once for each ticket, in any order.
    fn ask(&mut self, ticket: Ticket, question: Question, now: Moment);

    /// Does what can be done now: reads and writes what is ready, opens connections, lets deadlines
    /// pass. `ready` may hold events of other components; those are skipped by their key. `sink`
    /// takes the answers.
    fn turn(
        &mut self,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
        sink: &mut dyn FnMut(Ticket, Result<Answer, Unanswered>),
    );

    /// When [`Database::turn`] must be called again even if nothing becomes ready. A moment that is
    /// past asks for a turn at once: after [`Database::ask`] there is always work to be done.
    fn next_deadline(&self) -> Option<Moment>;

    /// How the pool fares now, for the metrics.
    fn stats(&self) -> PoolStats;

    /// What went wrong since the last call, in words for the log: no secrets, no more than a few
    /// lines however often it went wrong.
    fn take_troubles(&mut self) -> Vec<String>;
}

/// A glance at the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections that are open or being opened; never more than `DB_POOL`.
    pub total: usize,
    /// Connections that the database has let in, whatever they do.
    pub open: usize,
    /// Those of them that have nothing to do.
    pub idle: usize,
    /// Questions that wait for a connection.
    pub waiting: usize,
    /// Questions answered since the start.
    pub answered: u64,
    /// Questions that could not be answered since the start.
    pub failed: u64,
}
