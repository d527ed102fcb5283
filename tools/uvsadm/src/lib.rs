//! ipvsadm's grammar and ipvsadm's text.
