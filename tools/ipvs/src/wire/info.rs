//! What the kernel says about its IPVS.

use super::attribute::attributes;

attributes! {
    /// `IPVS_INFO_ATTR_*`: they stand directly in an `IPVS_CMD_SET_INFO` message.
    InfoAttribute {
        /// IPVS's version, a byte a part: 0x010201 is 1.2.1.
        Version(u32) = 1 IPVS_INFO_ATTR_VERSION,
        /// the number of rows of the connection table.
        ConnectionTableSize(u32) = 2 IPVS_INFO_ATTR_CONN_TAB_SIZE,
    }
}
