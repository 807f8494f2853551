//! `mailbox answer PATH`: answers one datagram at a UNIX socket. `mailbox ask OWN PATH TEXT`: sends
//! one and prints what comes back. Both are there until the other has read its message: the name of
//! a socket of another run is known as long as that runs.

use cage_libc::net::{AF_UNIX, Address, SOCK_DGRAM, Socket};
use cage_libc::sys::Errno;

fn bound(path: &str) -> Result<Socket, Errno> {
    let socket = Socket::new(AF_UNIX, SOCK_DGRAM)?;
    socket.bind(&Address::unix(path.as_bytes()))?;
    Ok(socket)
}

fn receive(socket: &Socket) -> Result<(String, Address), Errno> {
    let mut buffer = [0; 1000];
    let (len, from) = socket.receive_from(&mut buffer, 0)?;
    Ok((String::from_utf8_lossy(&buffer[..len]).into_owned(), from))
}

fn answer(path: &str) -> Result<(), Errno> {
    let socket = bound(path)?;
    println!("ready");
    let (text, from) = receive(&socket)?;
    let sender = from.path().map(String::from_utf8_lossy);
    println!("{text} from {}", sender.unwrap_or_default());
    socket.send_to(format!("{text}!").as_bytes(), 0, &from)?;
    receive(&socket).map(drop)
}

fn ask(own: &str, path: &str, text: &str) -> Result<(), Errno> {
    let socket = bound(own)?;
    socket.send_to(text.as_bytes(), 0, &Address::unix(path.as_bytes()))?;
    let (text, from) = receive(&socket)?;
    let sender = from.path().map(String::from_utf8_lossy);
    println!("{text} from {}", sender.unwrap_or_default());
    socket.send_to(b"read", 0, &Address::unix(path.as_bytes()))?;
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["answer", path] => answer(path),
        ["ask", own, path, text] => ask(own, path, text),
        _ => {
            eprintln!("usage: mailbox answer PATH | ask OWN PATH TEXT");
            std::process::exit(64)
        }
    };
    if let Err(errno) = done {
        println!("mailbox: {errno:?}");
        std::process::exit(1)
    }
}
