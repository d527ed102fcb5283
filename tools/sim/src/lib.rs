//! The schedulers against a workload, in simulated time.
//!
//! What is simulated: connections arrive by chance, as often as they are told to; the very
//! schedulers of `uvs-sched` pick a server for each, as the engine has them do it; the server serves it
//! with one of its workers, or lets it wait in line; and once it has ended it is remembered as
//! inactive for a while, as IPVS does. What is measured: how evenly the servers were loaded, how
//! long connections waited and took, and which clients a change of the list sent elsewhere.
//!
//! Every scheduler of a run gets the same connections. The same scenario gives the same result.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod churn;
mod error;
mod file;
pub mod measure;
pub mod plots;
mod random;
pub mod report;
mod run;
pub mod scenario;
pub mod scheduler;
pub mod server;
pub mod standard;
pub mod workload;

pub use error::Wrong;
pub use report::Report;
pub use run::{Outcome, PARTS, run};
pub use scenario::Scenario;
