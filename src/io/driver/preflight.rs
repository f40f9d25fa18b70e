//! Would glommio work here? It panics instead of saying no, so we ask the kernel first.

use rustix::io::Errno;
use rustix::io_uring::{io_uring_params, io_uring_setup};
use rustix::process::{Resource, getrlimit};

/// Glommio refuses to start with less locked memory than this.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// The rings of one executor, measured; the kernel counts them against the user's locked memory.
const MEMLOCK_BYTES_PER_CORE: u64 = 256 * 1024;

/// Why glommio cannot run `cores` executors here, with what to change; `None` if it can.
pub(super) fn refusal(cores: usize) -> Option<String> {
    if let Err(error) = ring() {
        return Some(match error {
            Errno::NOSYS => "the kernel has no io_uring".to_owned(),
            Errno::PERM | Errno::ACCESS => {
                "io_uring is refused (sysctl kernel.io_uring_disabled, or a container's seccomp \
                 profile)"
                    .to_owned()
            }
            Errno::NOMEM => "no locked memory is left for io_uring (LimitMEMLOCK)".to_owned(),
            error => format!("io_uring does not work: {error}"),
        });
    }
    let wanted = MEMLOCK_BYTES_MIN.max(cores as u64 * MEMLOCK_BYTES_PER_CORE);
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < wanted => Some(format!(
            "the limit of locked memory is {limit} bytes and {cores} cores need {wanted} \
             (LimitMEMLOCK)"
        )),
        _ => None,
    }
}

/// Makes a small ring and closes it.
fn ring() -> Result<(), Errno> {
    let mut params = io_uring_params::default();
    // SAFETY: `params` is a valid, zeroed structure without flags, so the kernel reads no pointer
    // from it.
    unsafe { io_uring_setup(8, &mut params) }.map(drop)
}
