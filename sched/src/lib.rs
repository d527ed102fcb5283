//! IPVS schedulers: which server gets a new connection.
