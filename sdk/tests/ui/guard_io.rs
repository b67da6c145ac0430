extern crate everpulse_sdk as everpulse;
use everpulse::{Error, step, workflow};

#[workflow]
async fn reads(path: String) -> Result<String, Error> {
    let inside = step("read", || async { std::fs::read_to_string("/etc/hostname").map_err(Error::from) }).await?;
    let outside = std::fs::read_to_string(path)?;
    let name = std::env::var("NAME")?;
    std::net::TcpStream::connect("localhost:80")?;
    Ok(inside + &outside + &name)
}

fn main() {}
