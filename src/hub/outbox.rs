//! What a connection could not take yet: a bounded queue of frames that is thrown away rather than
//! flushed when its client is too slow.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::config::Limits;
use crate::hub::farewell::Farewell;
use crate::hub::moment::Moment;

/// Bytes ready for a socket, shared by all connections that get them.
pub type Frame = Rc<Vec<u8>>;

/// Frames that leave in one write at most.
pub const WRITE_PARTS_MAX: usize = 16;

/// The frames that wait for one socket, in order.
#[derive(Debug)]
pub struct Outbox {
    /// Never empty while the outbox exists, and its first frame is never fully sent.
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are sent already: `sent < frames[0].len()`.
    sent: usize,
    /// Sum of the lengths of `frames`, in full for each connection although frames are shared.
    bytes: usize,
    /// When the kernel last took a byte.
    progress: Moment,
    /// The kernel has not been asked yet: more frames are being gathered.
    pub is_held: bool,
    /// The kernel had no memory to take anything; it is going to be asked again.
    pub is_starved: bool,
}

impl Outbox {
    /// An outbox for the rest of `frame`, of which the kernel took `sent` bytes.
    pub fn new(frame: Frame, sent: usize, now: Moment) -> Outbox {
        debug_assert!(sent < frame.len());
        let bytes = frame.len();
        Outbox {
            frames: VecDeque::from([frame]),
            sent,
            bytes,
            progress: now,
            is_held: false,
            is_starved: false,
        }
    }

    /// One more frame would not go over a bound.
    pub fn has_room(&self, frame: &Frame, limits: &Limits) -> bool {
        self.bytes + frame.len() <= limits.outbox_bytes_max
            && self.frames.len() < limits.outbox_frames_max
    }

    /// Adds a frame, unless that goes over a bound.
    pub fn push(&mut self, frame: Frame, limits: &Limits) -> Result<(), Farewell> {
        if !self.has_room(&frame, limits) {
            return Err(Farewell::OutboxFull);
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        Ok(())
    }

    /// The bytes to send next, as many parts of `parts` as are filled.
    pub fn next<'parts>(&'parts self, parts: &mut [&'parts [u8]; WRITE_PARTS_MAX]) -> usize {
        let mut count = 0;
        for (part, frame) in parts.iter_mut().zip(&self.frames) {
            *part = frame.get(if count == 0 { self.sent } else { 0 }..).unwrap_or_default();
            count += 1;
        }
        count
    }

    /// The kernel took `count` bytes of [`Outbox::next`]. True when nothing is left.
    pub fn took(&mut self, count: usize, now: Moment) -> bool {
        if count > 0 {
            self.progress = now;
        }
        self.sent += count;
        while let Some(first) = self.frames.front() {
            if self.sent < first.len() {
                return false;
            }
            self.sent -= first.len();
            self.bytes -= first.len();
            self.frames.pop_front();
        }
        true
    }

    /// The kernel took no byte since before `deadline`.
    pub fn is_blocked_since(&self, deadline: Moment) -> bool {
        self.progress <= deadline
    }

    /// Part of a frame is out, so that nothing but its rest can follow.
    pub fn is_amid_frame(&self) -> bool {
        self.sent > 0
    }

    /// Bytes waiting, frames counted in full.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames waiting.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_leave_in_order_and_whole_however_little_the_kernel_takes(
            lengths in prop::collection::vec(1_usize..50, 1..20),
            bites in prop::collection::vec(0_usize..70, 1..400),
        ) {
            let limits = Limits::default();
            let frames: Vec<Frame> = lengths
                .iter()
                .enumerate()
                .map(|(index, length)| Rc::new(vec![index as u8; *length]))
                .collect();
            let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.iter().copied()).collect();
            let mut outbox = Outbox::new(frames[0].clone(), 0, Moment(0));
            for frame in &frames[1..] {
                outbox.push(frame.clone(), &limits).unwrap();
            }
            let mut sent = Vec::new();
            let mut done = false;
            for bite in bites.into_iter().chain(std::iter::repeat(1)) {
                let mut parts = [&[][..]; WRITE_PARTS_MAX];
                let filled = outbox.next(&mut parts);
                let next = parts[..filled].concat();
                let count = bite.min(next.len());
                sent.extend_from_slice(&next[..count]);
                done = outbox.took(count, Moment(1));
                if done {
                    break;
                }
                prop_assert!(outbox.bytes() > 0);
            }
            prop_assert!(done);
            prop_assert_eq!(sent, expected);
            prop_assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn a_full_outbox_is_a_farewell() {
        let limits = Limits { outbox_bytes_max: 10, ..Limits::default() };
        let mut outbox = Outbox::new(Rc::new(vec![0; 6]), 0, Moment(0));
        assert_eq!(outbox.push(Rc::new(vec![0; 4]), &limits), Ok(()));
        assert_eq!(outbox.push(Rc::new(vec![0; 1]), &limits), Err(Farewell::OutboxFull));
    }
}
