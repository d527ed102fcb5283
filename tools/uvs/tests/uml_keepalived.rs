//! Real keepalived checks real servers and programs a real kernel; `uvs mirror` carries it to uvs.

mod uml;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use uml::{UVS, eventually, idle_engine, inside, printed};
use uvs_lab::Guard;

const CONFIG: &str = "
global_defs {
	vrrp_garp_master_delay 0
}
virtual_server 10.0.0.1 80 {
	delay_loop 1
	lb_algo wlc
	lb_kind DR
	protocol TCP
	real_server 127.0.1.1 80 {
		weight 1
		TCP_CHECK {
			connect_timeout 1
			retry 0
		}
	}
	real_server 127.0.1.2 80 {
		weight 3
		TCP_CHECK {
			connect_timeout 1
			retry 0
		}
	}
}
";

/// A server that accepts until its sender is dropped.
fn server(address: &str) -> mpsc::Sender<()> {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (alive, stopped) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            while listener.accept().is_ok() {}
        }
    });
    alive
}

fn keepalived() -> Guard {
    fs::write("/run/keepalived.conf", CONFIG).unwrap();
    let log = fs::File::create("/run/keepalived.log").unwrap();
    let mut program = Command::new("keepalived");
    program.args(["--dont-fork", "--log-console", "--check", "--use-file", "/run/keepalived.conf"]);
    program.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Guard::spawn(&mut program).unwrap()
}

#[test]
fn keepalived_drives_uvs_and_a_dead_server_leaves_it_in_time() {
    inside("keepalived_drives_uvs_and_a_dead_server_leaves_it_in_time", 180, || {
        let _engine = idle_engine();
        let mut follower = Command::new(UVS);
        follower.args(["mirror", "--from-kernel", "--follow"]).env("UVS_SOCKET", uml::socket());
        let _follower = Guard::spawn(&mut follower).unwrap();
        let servers = ["127.0.1.1:80", "127.0.1.2:80"].map(server);
        let keepalived = keepalived();
        let (kernel, ours) = (|| printed("ipvsadm", "-S -n"), || printed(UVS, "adm -S -n"));
        let log = || fs::read_to_string("/run/keepalived.log").unwrap();
        let both = |list: &str| list.contains("127.0.1.1:80") && list.contains("127.0.1.2:80");
        eventually("keepalived programs no kernel", || both(&kernel()));
        eventually("uvs gets no servers", || both(&ours()));
        assert_eq!(kernel(), ours(), "{}", log());

        let [_alive, dead] = servers;
        drop(dead);
        eventually("keepalived does not find out", || !kernel().contains("127.0.1.2:80"));
        let gone = Instant::now();
        eventually("uvs keeps it", || !ours().contains("127.0.1.2:80"));
        // Half a second at most passes until it is looked for; the rest is the listings' own time.
        println!("uvs lists it no more {:?} after the kernel", gone.elapsed());
        assert_eq!(kernel(), ours());

        keepalived.stop(Duration::from_secs(10)).unwrap();
        eventually("the service stays", || ours().is_empty());
        assert_eq!(kernel(), "", "{}", log());
    });
}
