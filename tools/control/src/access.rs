//! Whose the API's socket is: `[api]` of uvs.toml.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::Wrong;

/// Who may use the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its mode, as of chmod(1).
    pub mode: u32,
    /// Its owner's number; who runs the engine if none is given.
    pub owner: Option<u32>,
    /// Its group's number.
    pub group: Option<u32>,
}

/// Its owner's alone.
impl Default for Access {
    fn default() -> Self {
        Self { mode: 0o600, owner: None, group: None }
    }
}

/// `[api]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiFile {
    pub(crate) socket: Option<Spanned<PathBuf>>,
    mode: Option<Spanned<String>>,
    owner: Option<Spanned<String>>,
    group: Option<Spanned<String>>,
}

impl ApiFile {
    pub(crate) fn access(&self) -> Result<Access, Wrong> {
        let mut access = Access::default();
        if let Some(mode) = &self.mode {
            let bits = u32::from_str_radix(mode.get_ref(), 8).ok().filter(|bits| *bits <= 0o777);
            let given = mode.get_ref();
            let message = format!("`mode` is {given:?}; it may be \"0600\" to \"0777\"");
            access.mode = bits.ok_or((mode.span(), message))?;
        }
        access.owner = id("owner", &self.owner, "/etc/passwd")?;
        access.group = id("group", &self.group, "/etc/group")?;
        Ok(access)
    }
}

/// A number, or the number of a name in a file as /etc/group is.
fn id(field: &str, given: &Option<Spanned<String>>, file: &str) -> Result<Option<u32>, Wrong> {
    let Some(given) = given else { return Ok(None) };
    let name = given.get_ref();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = || {
        let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields[0] == name)?.get(2)?.parse().ok()
    };
    let message = || format!("`{field}` is {name:?}; {file} does not have it, give its number");
    let id = name.parse().ok().or_else(found).ok_or_else(|| (given.span(), message()))?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn access(text: &str) -> Result<Access, String> {
        let text = format!("outside = \"a\"\n[api]\n{text}\n");
        Config::parse(&text, "uvs.toml").map(|config| config.access).map_err(|e| e.to_string())
    }

    #[test]
    fn the_socket_is_its_owners_alone_unless_told() {
        assert_eq!(access("").unwrap(), Access { mode: 0o600, owner: None, group: None });
        let told = access("mode = \"0660\"\nowner = \"root\"\ngroup = \"4711\"").unwrap();
        assert_eq!(told, Access { mode: 0o660, owner: Some(0), group: Some(4711) });
        for (text, expected) in [
            ("mode = \"abc\"", "line 3: `mode` is \"abc\"; it may be \"0600\" to"),
            ("mode = \"1777\"", "line 3: `mode`"),
            ("group = \"nobody-has-this\"", "line 3: `group` is \"nobody-has-this\"; /etc/group"),
            ("colour = 1", "unknown field `colour`"),
        ] {
            let error = access(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_socket_is_named_in_one_place() {
        let text = "outside = \"a\"\n[api]\nsocket = \"/run/x\"\n";
        let config = Config::parse(text, "uvs.toml").unwrap();
        assert_eq!(config.socket.to_str(), Some("/run/x"));
        let twice = format!("socket = \"/run/y\"\n{text}");
        let error = Config::parse(&twice, "uvs.toml").unwrap_err().to_string();
        assert!(error.contains("line 4: `socket` is given twice"), "{error}");
    }
}
