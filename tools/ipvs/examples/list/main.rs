//! Lists what the kernel's IPVS serves, as root: about what `ipvsadm -Ln --nosort` prints.

use uvs_ipvs::{Client, Error};

mod text;

fn main() -> std::process::ExitCode {
    match list() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), Error> {
    let mut ipvs = Client::open()?;
    println!("{}", ipvs.info()?);
    println!("Prot LocalAddress:Port Scheduler Flags");
    println!("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn");
    for listed in ipvs.services()? {
        println!("{}", text::service(&listed.service));
        for dest in ipvs.dests(&listed.service.key)? {
            println!("{}", text::dest(&dest));
        }
    }
    Ok(())
}
