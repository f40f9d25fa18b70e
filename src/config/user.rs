//! The system's user that the process runs as: libpq's default role, and where its files are.

use super::reader::Reader;

/// The user's name.
pub(super) fn name(reader: &mut Reader) -> Option<String> {
    passwd_field(reader, 0).or_else(|| reader.text("USER").map(|told| told.text))
}

/// The user's home directory: `HOME`, else what passwd(5) says.
pub(super) fn home(reader: &mut Reader) -> Option<String> {
    let told = reader.text("HOME").map(|told| told.text);
    told.or_else(|| passwd_field(reader, 5))
}

/// passwd(5): `name:password:uid:gid:comment:home:shell`.
fn passwd_field(reader: &Reader, field: usize) -> Option<String> {
    let file = reader.surroundings.read(std::path::Path::new("/etc/passwd")).ok()?;
    let text = String::from_utf8_lossy(&file);
    let user_id = reader.surroundings.user_id().to_string();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.get(2) == Some(&user_id.as_str()))?;
    fields.get(field).filter(|text| !text.is_empty()).map(|text| (*text).to_owned())
}
