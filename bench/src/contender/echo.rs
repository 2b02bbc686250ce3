//! An epoll loop of one thread that writes the same bytes whenever a head has ended.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Serves `answer` until it is killed.
pub(super) fn serve(listeners: Vec<TcpListener>, answer: &[u8]) -> anyhow::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connections = HashMap::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut doors = HashMap::new();
    for listener in listeners {
        doors.insert(watch(&epoll, &listener)?, listener);
    }
    loop {
        let mut events = Vec::with_capacity(256);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events {
            let number = event.data.u64();
            if let Some(door) = doors.get(&number) {
                // Its first request is mostly there already.
                let Some(stream) = accept(door)? else {
                    continue;
                };
                let number = watch(&epoll, &stream)?;
                if answered(&stream, &mut buffer, answer) {
                    connections.insert(number, stream);
                }
            } else if let Some(stream) = connections.get(&number)
                && !answered(stream, &mut buffer, answer)
            {
                connections.remove(&number);
            }
        }
    }
}

fn accept(door: &TcpListener) -> anyhow::Result<Option<TcpStream>> {
    match door.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn watch(epoll: &OwnedFd, socket: &(impl AsFd + AsRawFd)) -> anyhow::Result<u64> {
    let number = u64::try_from(socket.as_raw_fd())?;
    epoll::add(
        epoll,
        socket.as_fd(),
        EventData::new_u64(number),
        EventFlags::IN,
    )?;
    Ok(number)
}

/// Reads what is there and answers when it ends a head; whether the connection goes on.
fn answered(mut stream: &TcpStream, buffer: &mut [u8], answer: &[u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(read) => {
            let ended = buffer
                .get(..read)
                .is_some_and(|head| head.ends_with(b"\r\n\r\n"));
            !ended || stream.write_all(answer).is_ok()
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
