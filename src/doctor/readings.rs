//! What the kernel says in `/proc` and `/sys`, through a trait so that tests can say it instead.

use std::collections::BTreeMap;
use std::fs;

/// Files of one line or a few, and the names in a directory.
pub trait Readings {
    /// The text of a file; `None` if it is not there or may not be read.
    fn text(&self, path: &str) -> Option<String>;

    /// The names in a directory, sorted; none if it is not there.
    fn names(&self, directory: &str) -> Vec<String>;
}

/// The real ones.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Readings for Kernel {
    fn text(&self, path: &str) -> Option<String> {
        fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Given ones: path and text.
impl Readings for BTreeMap<String, String> {
    fn text(&self, path: &str) -> Option<String> {
        self.get(path).cloned()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let below = format!("{directory}/");
        let mut names: Vec<String> = self
            .keys()
            .filter_map(|path| path.strip_prefix(&below)?.split('/').next().map(str::to_owned))
            .collect();
        names.dedup();
        names
    }
}

/// The numbers in a file; empty if it cannot be read.
pub(super) fn numbers(readings: &dyn Readings, path: &str) -> Vec<u64> {
    let text = readings.text(path).unwrap_or_default();
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// The first number in a file.
pub(super) fn number(readings: &dyn Readings, path: &str) -> Option<u64> {
    numbers(readings, path).first().copied()
}

/// The word in brackets of a choice such as `always [madvise] never`.
pub(super) fn chosen(readings: &dyn Readings, path: &str) -> Option<String> {
    let text = readings.text(path)?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// The rest of the line that begins with `key`, in files such as `/proc/meminfo`.
pub(super) fn keyed(readings: &dyn Readings, path: &str, key: &str) -> Option<String> {
    let text = readings.text(path)?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let files = [
            ("/three", "1\t22  333\n"),
            ("/choice", "always [madvise] never\n"),
            ("/info", "MemTotal:       24000 kB\nSwapTotal:      0 kB\n"),
            ("/d/a/x", ""),
            ("/d/a/y", ""),
            ("/d/b", ""),
        ];
        let files: BTreeMap<String, String> =
            files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        assert_eq!(numbers(&files, "/three"), [1, 22, 333]);
        assert_eq!(number(&files, "/gone"), None);
        assert_eq!(chosen(&files, "/choice").as_deref(), Some("madvise"));
        assert_eq!(keyed(&files, "/info", "SwapTotal:").as_deref(), Some("0 kB"));
        assert_eq!(files.names("/d"), ["a", "b"]);
    }
}
