//! The names that uvsadm runs by.

use std::path::Path;

/// A name that the program runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// As it was called, with its path: so ipvsadm prints it.
    pub name: String,
    /// What it does.
    pub kind: Kind,
}

/// What the program does by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ipvsadm's commands, to the byte.
    Ipvsadm,
    /// The same, with what uvs has besides.
    Uvsadm,
    /// What ipvsadm-save does.
    Save,
    /// What ipvsadm-restore does.
    Restore,
}

impl Program {
    /// The program of this first argument; `None` if the name is none of these.
    pub fn called(name: &str) -> Option<Self> {
        let kind = match base(name) {
            "ipvsadm" => Kind::Ipvsadm,
            "uvsadm" => Kind::Uvsadm,
            "ipvsadm-save" => Kind::Save,
            "ipvsadm-restore" => Kind::Restore,
            _ => return None,
        };
        Some(Self { name: name.to_owned(), kind })
    }

    /// uvsadm by another name.
    pub fn uvsadm(name: &str) -> Self {
        Self { name: name.to_owned(), kind: Kind::Uvsadm }
    }

    /// Its name without its path.
    pub(crate) fn base(&self) -> &str {
        base(&self.name)
    }
}

fn base(name: &str) -> &str {
    Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_names_are_uvsadm() {
        for (name, kind) in [
            ("ipvsadm", Kind::Ipvsadm),
            ("/sbin/ipvsadm", Kind::Ipvsadm),
            ("./uvsadm", Kind::Uvsadm),
            ("/usr/sbin/ipvsadm-save", Kind::Save),
            ("ipvsadm-restore", Kind::Restore),
        ] {
            assert_eq!(Program::called(name), Some(Program { name: name.into(), kind }));
        }
        assert_eq!(Program::called("uvs"), None);
        assert_eq!(Program::called(""), None);
    }
}
