//! What is known of network drivers: a forecast. What the kernel really does is seen when a
//! socket is opened, and `uvs run` says it.

use super::machine::Version;

/// What a driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The kernel from which on it does AF_XDP without a copy.
    pub zero_copy: Option<Version>,
    /// Whether it runs XDP programs itself; otherwise the kernel runs them, later and slower.
    pub native: bool,
    /// Largest MTU with an XDP program, where the driver is narrower than the engine.
    pub mtu: Option<u32>,
    /// What it does with frames that take several buffers.
    pub jumbo: Jumbo,
}

impl Driver {
    /// What it can do while frames take several buffers.
    pub fn with_jumbo(self) -> Self {
        match self.jumbo {
            Jumbo::ZeroCopy => self,
            Jumbo::Native => Self { zero_copy: None, ..self },
            Jumbo::Generic => Self { zero_copy: None, native: false, ..self },
        }
    }
}

/// What a driver does with frames of several buffers under XDP, in a kernel that has them in AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jumbo {
    /// Takes them without a copy.
    ZeroCopy,
    /// Runs the program on them.
    Native,
    /// Leaves them to the kernel's generic mode.
    Generic,
}

/// Drivers with zero-copy AF_XDP, and the kernel in which each got it.
const ZERO_COPY: [(&str, Version); 12] = [
    ("i40e", (4, 20)),
    ("ixgbe", (4, 20)),
    ("mlx5_core", (5, 3)),
    ("ice", (5, 5)),
    ("dwmac-intel", (5, 13)),
    ("st_gmac", (5, 13)),
    ("igc", (5, 14)),
    ("nfp", (5, 18)),
    ("fsl_dpaa2_eth", (6, 2)),
    ("gve", (6, 4)),
    ("virtio_net", (6, 13)),
    ("igb", (6, 14)),
];

/// Drivers that run XDP programs themselves but copy.
const NATIVE: [&str; 16] = [
    "veth",
    "tun",
    "ena",
    "bnxt_en",
    "mlx4_en",
    "mlx4_core",
    "ixgbevf",
    "sfc",
    "qede",
    "mana",
    "hv_netvsc",
    "xen_netfront",
    "vmxnet3",
    "atlantic",
    "mvneta",
    "bonding",
];

/// Largest MTU with an XDP program.
const MTU: [(&str, u32); 4] =
    [("veth", 3520), ("virtio_net", 3502), ("ena", 3498), ("mlx5_core", 3498)];

/// Drivers that run XDP programs on frames of several buffers; the first do it without a copy.
const JUMBO: [(&str, Jumbo); 7] = [
    ("i40e", Jumbo::ZeroCopy),
    ("ice", Jumbo::ZeroCopy),
    ("mlx5_core", Jumbo::Native),
    ("bnxt_en", Jumbo::Native),
    ("virtio_net", Jumbo::Native),
    ("mvneta", Jumbo::Native),
    ("veth", Jumbo::Native),
];

/// What is known of a driver by its name; of an unknown one, that the kernel must help.
pub fn known(name: &str) -> Driver {
    let of = |table: &[(&str, Version)]| table.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let zero_copy = of(&ZERO_COPY);
    Driver {
        zero_copy,
        native: zero_copy.is_some() || NATIVE.contains(&name),
        mtu: MTU.iter().find(|(n, _)| *n == name).map(|(_, mtu)| *mtu),
        jumbo: JUMBO.iter().find(|(n, _)| *n == name).map_or(Jumbo::Generic, |(_, jumbo)| *jumbo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_name() {
        let zero_copy = Some((5, 5));
        let ice = Driver { zero_copy, native: true, mtu: None, jumbo: Jumbo::ZeroCopy };
        assert_eq!(known("ice"), ice);
        let (mtu, jumbo) = (Some(3520), Jumbo::Native);
        assert_eq!(known("veth"), Driver { zero_copy: None, native: true, mtu, jumbo });
        let (mtu, jumbo) = (None, Jumbo::Generic);
        assert_eq!(known("e1000e"), Driver { zero_copy: None, native: false, mtu, jumbo });
    }
}
