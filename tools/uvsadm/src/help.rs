//! What `-h` and `-v` print.

/// The usage, limited to what uvs does, in ipvsadm's layout; `program` is the name it runs by.
pub fn help(program: &str) -> String {
    format!(
        "\
{version}Usage:
  {program} -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [options]
  {program} -D virtual-service
  {program} -C
  {program} -R
  {program} -S [-n]
  {program} -a|e virtual-service -r server-address [options]
  {program} -d virtual-service -r server-address
  {program} -L|l [virtual-service] [options]
  {program} -Z [virtual-service]
  {program} --set tcp tcpfin udp
  {program} -h

{REFERENCE}
Examples:
  {program} -A -t 10.0.0.1:80 -s rr                    a service, servers in turn
  {program} -a -t 10.0.0.1:80 -r 10.0.1.1 -g           a server by direct routing
  {program} -a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m -w 3 a server by NAT, with three shares
  {program} -e -t 10.0.0.1:80 -r 10.0.1.1 -w 0         no new connections for that server
  {program} -A -t [fd00::1]:443 -s sh -p 600 -M 64     clients of one /64 stay with a server
  {program} -A -f 7 -s wlc                             what the mark rules mark with 7
  {program} -L -n --stats                              what was balanced so far
  {program} -S -n > rules; {program} -R < rules          save and restore
",
        version = version()
    )
}

/// The version of ipvsadm that uvs speaks as: scripts look for it.
pub fn version() -> &'static str {
    "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
}

const REFERENCE: &str = "\
Commands (each short or long):
  --add-service     -A        a new virtual service
  --edit-service    -E        another scheduler for a service
  --delete-service  -D        a service goes, with its servers
  --clear           -C        all services go
  --restore         -R        read rules from standard input
  --save            -S        write rules to standard output
  --add-server      -a        a new server of a service
  --edit-server     -e        another weight, method or threshold for a server
  --delete-server   -d        a server goes
  --list            -L|-l     list services, or connections with -c
  --zero            -Z        statistics of a service, or of all, begin anew
  --set tcp tcpfin udp        timeouts of connections in seconds; 0 leaves one as it is
  --help            -h        this text
  --version         -v        the version of ipvsadm that this is compatible with

virtual-service (IPv6 addresses stand in brackets):
  --tcp-service|-t  host[:port]       a TCP service
  --udp-service|-u  host[:port]       a UDP service
  --sctp-service    host[:port]       an SCTP service
  --fwmark-service|-f mark            what has a firewall mark (uvs.toml's [[marks]])
  --ipv6|-6                           after -f: its IPv6 packets

Options:
  --scheduler    -s scheduler         rr, wrr, wlc ...; wlc if none is given
  --persistent   -p [timeout]         a client stays with its server, 360 seconds if none is given
  --netmask      -M netmask           clients that are equal under it count as one; IPv6: a prefix
  --pe sip                            SIP calls count instead of clients
  --ops          -o                   every UDP packet is scheduled by itself
  --sched-flags  -b flags             sh-fallback, sh-port, mh-fallback, mh-port
  --conn-timeout tcp,tcpfin,udp       the service's own timeouts, uvs's own; 0 is none of its own
  --real-server  -r host[:port]       the server; its port is the service's if none is given
  --gatewaying   -g                   direct routing, the default
  --ipip         -i                   an IPIP tunnel
  --masquerading -m                   NAT; the port may differ from the service's
  --weight       -w weight            the server's share, 1 if none is given
  --u-threshold  -x connections       no new connections from here on
  --l-threshold  -y connections       new ones again below this
  --connection   -c                   list connections
  --timeout                           list timeouts (tcp tcpfin udp)
  --stats                             list totals
  --rate                              list what happens a second
  --thresholds                        list thresholds
  --persistent-conn                   list persistence templates; with -c also calls by name
  --tun-info                          list tunnels
  --exact                             whole numbers, no K M G T
  --nosort                            in the engine's order, not by address
  --sort                              has no effect
  --numeric      -n                   addresses and ports as numbers
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::WORDS;

    #[test]
    fn help_names_only_words_of_the_grammar() {
        for name in help("uvsadm").split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            let name = name.split(['|', ',']).next().unwrap();
            assert!(WORDS.iter().any(|word| word.long == name), "--{name}");
        }
    }
}
