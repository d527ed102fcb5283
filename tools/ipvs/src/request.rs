//! What is asked of the kernel: the messages of the commands that name something.

use crate::wire::{Command, CommandAttribute, DestAttribute, Message, Nested, ServiceAttribute};
use crate::{Daemon, ServiceKey};

pub(crate) fn service(command: Command, list: Vec<ServiceAttribute>) -> Message {
    Message::new(command, vec![CommandAttribute::Service(Nested::flagged(list))])
}

pub(crate) fn dest(command: Command, service: &ServiceKey, list: Vec<DestAttribute>) -> Message {
    let service = CommandAttribute::Service(Nested::flagged(service.attributes()));
    Message::new(command, vec![service, CommandAttribute::Dest(Nested::flagged(list))])
}

pub(crate) fn daemon(command: Command, daemon: &Daemon) -> Message {
    let daemon = Nested::flagged(daemon.attributes());
    Message::new(command, vec![CommandAttribute::Daemon(daemon)])
}
