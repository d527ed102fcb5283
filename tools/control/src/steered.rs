//! What of a snapshot the steering program has to know.

use std::collections::HashSet;

use uvs_engine::port::steer::Steered;
use uvs_engine::service::{Endpoint, FTP, ServiceKey};
use uvs_engine::snapshot::Snapshot;
use uvs_forward::wire::protocol;

/// What the steering program has to send to the workers: what is for a service, or for one that
/// was removed while connections are left, and the replies of NAT servers.
pub(crate) fn steered(snapshot: &Snapshot, lingering: &HashSet<ServiceKey>) -> Steered {
    let servers = snapshot.nat_servers().flat_map(|server| of_each_protocol(*server)).collect();
    let marks = snapshot.rules.marks.clone();
    let tunnels = snapshot.tunnels().copied().collect();
    let mut steered = Steered { servers, tunnels, marks, ..Steered::default() };
    for service in snapshot.services() {
        if let ServiceKey::Endpoint(end) = service.key
            && (end.protocol, end.port) == (protocol::TCP, FTP)
        {
            // Its data connections come to other ports.
            steered.services.insert(Endpoint { port: 0, ..end });
        }
    }
    for key in snapshot.services().iter().map(|service| &service.key).chain(lingering) {
        match *key {
            ServiceKey::Endpoint(endpoint) => {
                steered.services.insert(endpoint);
            }
            ServiceKey::Mark { mark, v6 } => {
                steered.served.insert((mark, v6));
            }
        }
    }
    steered
}

/// The endpoints of an endpoint that is of any protocol, as those of a mark's servers are: the
/// steering program asks for the one that a frame has.
fn of_each_protocol(endpoint: Endpoint) -> Vec<Endpoint> {
    match endpoint.protocol {
        0 => [protocol::TCP, protocol::UDP, protocol::SCTP]
            .map(|protocol| Endpoint { protocol, ..endpoint })
            .to_vec(),
        _ => vec![endpoint],
    }
}
