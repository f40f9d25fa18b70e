//! From readiness to deliveries.

use std::io;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::client::{Partial, State};
use super::{Crowd, PLACE_BITS};
use crate::io::poller::Readiness;
use crate::load::clock::nanos;
use crate::load::inbound::{self, Chunks, Frame, Unusable};
use crate::load::plan::Transport;
use crate::load::verify::{UNSEEN, Wrong};

/// The receive buffer of a client that reads again.
const RESUMED_BYTES: usize = 1 << 20;

impl Crowd {
    /// Something has happened to a client's socket.
    pub(super) fn ready(&mut self, readiness: Readiness, scratch: &mut [u8]) {
        let place = (readiness.key & ((1 << PLACE_BITS) - 1)) as usize;
        let Some(client) = self.clients.get(place) else { return };
        if u64::from(client.generation) != readiness.key >> PLACE_BITS {
            return;
        }
        if client.state == State::Connecting && (readiness.writable || readiness.hung_up) {
            self.ask(place);
        }
        let Some(client) = self.clients.get(place) else { return };
        match client.state {
            State::Asking | State::Open if readiness.readable || readiness.hung_up => {
                self.read(place, readiness.hung_up, scratch);
            }
            State::Stalled if readiness.hung_up => self.lose(place, "stalled"),
            _ => {}
        }
    }

    /// A client that had stopped reading reads again: at once, because the kernel tells only once
    /// that there is something.
    pub(super) fn resume(&mut self, place: usize, scratch: &mut [u8]) {
        if let Some(client) = self.clients.get_mut(place)
            && client.state == State::Stalled
        {
            client.state = State::Open;
            if let Some(socket) = &client.socket {
                // Through the few bytes of before, megabytes would take long.
                let _ = sockopt::set_socket_recv_buffer_size(socket, RESUMED_BYTES);
            }
            self.read(place, true, scratch);
        }
    }

    /// The connection stands, or has failed.
    fn ask(&mut self, place: usize) {
        let number = self.number(place);
        let Some(client) = self.clients.get_mut(place) else { return };
        let Some(socket) = &client.socket else { return };
        let failure = match sockopt::socket_error(socket) {
            Ok(Ok(())) => {
                self.request.clear();
                self.parts.plan.push_request(number, &mut self.request);
                send(socket, &self.request, SendFlags::NOSIGNAL).err()
            }
            Ok(Err(error)) | Err(error) => Some(error),
        };
        match failure {
            None => client.state = State::Asking,
            Some(error) => self.retry(place, &format!("connect: {}", io::Error::from(error))),
        }
    }

    fn read(&mut self, place: usize, hung_up: bool, scratch: &mut [u8]) {
        loop {
            let Some(client) = self.clients.get_mut(place) else { return };
            let Some(socket) = &client.socket else { return };
            let count = match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.lose(place, "ended by the server"),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(error) => return self.lose(place, &io::Error::from(error).to_string()),
            };
            self.tally.bytes += count as u64;
            let bytes = scratch.get(..count).unwrap_or_default();
            let outcome = match client.partial.take() {
                None => self.take(place, bytes).map(|used| bytes.get(used..).map(<[u8]>::to_vec)),
                Some(mut partial) => {
                    partial.0.extend_from_slice(bytes);
                    self.take(place, &partial.0).map(|used| {
                        partial.0.drain(..used);
                        Some(partial.0)
                    })
                }
            };
            match outcome {
                Err(Unusable(reason)) => return self.lose(place, &reason),
                Ok(rest) => {
                    let rest = rest.filter(|rest| !rest.is_empty());
                    if let Some(client) = self.clients.get_mut(place)
                        && client.socket.is_some()
                    {
                        client.partial = rest.map(|rest| Box::new(Partial(rest)));
                    }
                }
            }
            if count < scratch.len() && !hung_up {
                return;
            }
        }
    }

    /// Takes whole messages; how many bytes they had.
    fn take(&mut self, place: usize, bytes: &[u8]) -> Result<usize, Unusable> {
        let transport = self.parts.plan.transport(self.number(place));
        let mut used = 0;
        if self.clients.get(place).is_some_and(|client| client.state == State::Asking) {
            let Some(length) = inbound::head(bytes, transport)? else { return Ok(0) };
            used = length;
            self.granted(place);
        }
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let length = match transport {
                Transport::WebSocket => self.take_frame(place, rest)?,
                Transport::EventStream => self.take_events(place, rest)?,
            };
            if length == 0 {
                break;
            }
            used += length;
        }
        Ok(used)
    }

    fn granted(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        client.state = State::Open;
        self.in_flight -= 1;
        self.tally.handshake.saturating_record(nanos() - client.since);
        self.gauges.open.fetch_add(1, Ordering::Relaxed);
    }

    fn take_frame(&mut self, place: usize, rest: &[u8]) -> Result<usize, Unusable> {
        let Some((length, frame)) = inbound::frame(rest)? else { return Ok(0) };
        match frame {
            Frame::Text(text) => self.deliver(place, text),
            Frame::Pong => {}
            Frame::Ping(payload) => {
                self.tally.keep_alives += 1;
                self.pong(place, payload);
            }
            Frame::Close(code) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                return Err(Unusable(format!("closed with {code}")));
            }
        }
        Ok(length)
    }

    /// Masked with zeros (RFC 6455 section 5.3 asks for chance, so that no page can write what it
    /// likes into caches; here is no page).
    fn pong(&mut self, place: usize, payload: &[u8]) {
        let Some(socket) = self.clients.get(place).and_then(|client| client.socket.as_ref()) else {
            return;
        };
        let payload = payload.get(..payload.len().min(125)).unwrap_or_default();
        self.request.clear();
        self.request.extend_from_slice(&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        self.request.extend_from_slice(payload);
        // If it does not fit into an idle socket's buffer, the connection is broken, and reading
        // will say so.
        let _ = send(socket, &self.request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    fn take_events(&mut self, place: usize, rest: &[u8]) -> Result<usize, Unusable> {
        let mut text = std::mem::take(&mut self.text);
        let outcome = inbound::chunks(rest, &mut text);
        if let Ok(Chunks::Events(_)) = outcome {
            for event in inbound::events(&text) {
                match event.starts_with(b":") {
                    true => self.tally.keep_alives += 1,
                    false => self.deliver(place, event),
                }
            }
        }
        self.text = text;
        match outcome? {
            Chunks::Events(length) => Ok(length),
            Chunks::Incomplete => Ok(0),
            Chunks::End => Err(Unusable("the response ended".to_owned())),
        }
    }

    fn deliver(&mut self, place: usize, text: &[u8]) {
        let number = self.number(place);
        let Some(client) = self.clients.get_mut(place) else { return };
        let is_first = client.next == UNSEEN;
        let seen = self.verifier.look(number, text, &mut client.next);
        let (marker, wrong) = match seen {
            Ok(None) => {
                self.tally.foreign += 1;
                return;
            }
            Ok(Some(marker)) => (marker, None),
            Err((marker, wrong)) => (marker, Some(wrong)),
        };
        if is_first && client.next != UNSEEN {
            self.gauges.served.fetch_add(1, Ordering::Relaxed);
        }
        if wrong.is_none() || matches!(wrong, Some(Wrong::Missed(_))) {
            let latency = nanos().saturating_sub(marker.intended_nanos);
            self.tally.delivery(marker.sequence, latency);
            self.gauges.delivered.fetch_add(1, Ordering::Relaxed);
        }
        let Some(wrong) = wrong else { return };
        self.gauges.wrong.fetch_add(1, Ordering::Relaxed);
        match wrong {
            Wrong::Again => self.tally.again += 1,
            Wrong::Missed(count) => self.tally.missed += u64::from(count),
            Wrong::Stray => self.tally.strays += 1,
            Wrong::Altered => self.tally.altered += 1,
        }
    }
}
