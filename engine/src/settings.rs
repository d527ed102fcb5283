//! The settings of IPVS, by their sysctl names (net/ipv4/vs/), and uvs's own beside them.

use std::fmt;
use std::ops::RangeInclusive;

use uvs_sched::Name;

use crate::clock::{TICKS_PER_SECOND, Ticks};

/// Declares the settings from one list.
macro_rules! settings {
    ($($name:ident $default:literal $range:expr, $meaning:literal;)*) => {
        /// Every setting's value. What IPVS has as a switch is 0 or 1 here as well.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $meaning] pub $name: u32,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// What there is to set, in the order of their names' families: IPVS's first.
        pub const ALL: &[Setting] = &[
            $(Setting { name: stringify!($name), default: $default, range: $range,
                meaning: $meaning },)*
        ];

        impl Settings {
            /// The value of a setting.
            pub fn get(&self, name: &str) -> Option<u32> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            fn place(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The sysctl's name.
    pub name: &'static str,
    /// The kernel's default.
    pub default: u32,
    /// Which values it may have.
    pub range: RangeInclusive<u32>,
    /// What it does.
    pub meaning: &'static str,
}

const SWITCH: RangeInclusive<u32> = 0..=1;
const DEFENSE: RangeInclusive<u32> = 0..=3;
/// What a kernel of 100 ticks a second can count (proc_dointvec_jiffies).
const SECONDS: RangeInclusive<u32> = 0..=i32::MAX as u32 / TICKS_PER_SECOND;
const ANY: RangeInclusive<u32> = 0..=i32::MAX as u32;

settings! {
    am_droprate 10 ANY, "drop_packet=3 drops every packet of this number that would open a connection";
    amemthresh 1024 ANY, "Pages (4 KB) of free connection table below which the automatic defences start, at most a sixteenth of the table";
    cache_bypass 0 SWITCH, "What has a mark whose service has no server goes on to its own destination, unless that is the host";
    conn_reuse_mode 1 ANY, "When a SYN on a known connection is scheduled anew: 0 never; bit 0 on TIME_WAIT and CLOSE; bit 1 on FIN_WAIT too";
    drop_entry 0 DEFENSE, "Drops connections that are not established, a 1/32 of the table a second: 0 never, 1 when memory is short, 2 as 1 and it is, 3 always";
    drop_packet 0 DEFENSE, "Drops a part of the packets that would open connections: 0 never, 1 when memory is short, 2 as 1 and it is, 3 at am_droprate";
    expire_nodest_conn 0 SWITCH, "The next packet of a connection whose server was removed ends it, and may be scheduled anew";
    expire_quiescent_template 0 SWITCH, "A persistence template whose server has weight 0 serves no new connection";
    lblc_expiration 86400 SECONDS, "Seconds for which lblc keeps the server of a destination that nobody asks for";
    lblcr_expiration 86400 SECONDS, "Seconds for which lblcr keeps the servers of a destination that nobody asks for";
    nat_icmp_send 0 SWITCH, "A NAT server whose packet belongs to no connection is told that the port is unreachable";
    pmtu_disc 1 SWITCH, "Tunnel packets to IPv4 servers carry the inner packet's DF, and what is too big is answered; 0: they are fragmented";
    schedule_icmp 0 SWITCH, "An ICMP error about no known connection opens one, by the packet that it carries";
    secure_tcp 0 DEFENSE, "The stricter TCP tables: 0 never, 1 when memory is short, 2 as 1 and it is, 3 always";
    sloppy_sctp 0 SWITCH, "Any SCTP packet may open a connection";
    sloppy_tcp 0 SWITCH, "Any TCP packet but a reset may open a connection";
    udp_reschedule 0 SWITCH, "uvs's own: a UDP flow whose server was removed or has weight 0 gets another one at its next packet";
    reset_on_expiry 0 SWITCH, "uvs's own: both ends of an established TCP connection that expires are reset";
    reset_unknown 0 SWITCH, "uvs's own: a TCP packet to a service that belongs to no connection is answered with a reset";
    table_full_hash 0 SWITCH, "uvs's own: new DR and TUN flows that the full connection table has no room for are forwarded by a hash of the client";
}

/// Why a setting was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("there is no setting '{0}'; `uvs set` lists those there are")]
    Unknown(String),
    /// The value is not allowed.
    #[error("{name} is {value}; it may be {first} to {last}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: i64,
        /// The smallest value.
        first: u32,
        /// The largest.
        last: u32,
    },
}

impl Settings {
    /// Changes a setting.
    ///
    /// # Errors
    ///
    /// There is none of this name, or the value is out of its range; nothing was changed.
    pub fn set(&mut self, name: &str, value: i64) -> Result<(), SettingError> {
        let unknown = || SettingError::Unknown(name.to_owned());
        let Setting { name, range, .. } =
            ALL.iter().find(|setting| setting.name == name).ok_or_else(unknown)?;
        let (first, last) = (*range.start(), *range.end());
        let allowed = u32::try_from(value).ok().filter(|value| range.contains(value));
        let allowed = allowed.ok_or(SettingError::Range { name, value, first, last })?;
        if let Some(place) = self.place(name) {
            *place = allowed;
        }
        Ok(())
    }

    /// How long a scheduler keeps what nobody asks for, if it is one that forgets.
    pub fn expiration(&self, scheduler: Name) -> Option<Ticks> {
        match scheduler {
            Name::Lblc => Some(Ticks::from_secs(self.lblc_expiration)),
            Name::Lblcr => Some(Ticks::from_secs(self.lblcr_expiration)),
            _ => None,
        }
    }

    /// Every setting with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, u32)> {
        ALL.iter().map(|setting| (setting, self.get(setting.name).unwrap_or(setting.default)))
    }
}

impl fmt::Display for Settings {
    /// As `name = value` lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(setting, value)| writeln!(f, "{} = {value}", setting.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_changed_by_its_name_within_its_range() {
        let mut settings = Settings::default();
        assert_eq!((settings.conn_reuse_mode, settings.am_droprate), (1, 10));
        settings.set("conn_reuse_mode", 3).unwrap();
        assert_eq!((settings.conn_reuse_mode, settings.get("conn_reuse_mode")), (3, Some(3)));
        for (name, value) in [("drop_entry", 4), ("sloppy_tcp", -1), ("am_droprate", 1 << 31)] {
            let error = settings.set(name, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is {value}; it may be 0 to ")), "{error}");
        }
        assert!(settings.set("lblc_expiration", 21_474_837).is_err());
        assert!(settings.set("colour", 1).unwrap_err().to_string().contains("no setting 'colour'"));
        assert_eq!(settings, Settings { conn_reuse_mode: 3, ..Settings::default() });
    }

    #[test]
    fn defaults_are_in_range_and_names_are_not_given_twice() {
        let mut names: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
        assert!(ALL.iter().all(|setting| setting.range.contains(&setting.default)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(Settings::default().to_string().lines().count(), ALL.len());
    }
}
