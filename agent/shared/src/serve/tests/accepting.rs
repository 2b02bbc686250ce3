//! Sockets that fail, and what is written to one that does not.

use super::*;

/// Fails twice, then gives the connections it is sent.
struct Flaky {
    failures: Arc<AtomicUsize>,
    connections: mpsc::Receiver<Counted>,
}

impl Accept for Flaky {
    type Io = Counted;

    async fn accept(&mut self) -> io::Result<Counted> {
        if self.failures.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(io::Error::other("too many open files"));
        }
        match self.connections.recv().await {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }
}

/// Notes the length of every write.
struct Counted {
    io: DuplexStream,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl tokio::io::AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        self.writes.lock().unwrap().push(buf.len());
        std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn accept_errors_are_waited_out_and_a_response_is_one_write() {
    let (send, connections) = mpsc::channel(1);
    let failures = Arc::new(AtomicUsize::new(0));
    let counters = counters();
    let shutdown = CancellationToken::new();
    let flaky = Flaky {
        failures: Arc::clone(&failures),
        connections,
    };
    let begun = Instant::now();
    let task = tokio::spawn(serve(
        flaky,
        Limits::default(),
        Connections::new(10, counters.clone()),
        respond,
        shutdown.clone(),
    ));
    let writes = Arc::new(Mutex::new(Vec::new()));
    let (mut client, io) = duplex(64 << 10);
    let counted = Counted {
        io,
        writes: Arc::clone(&writes),
    };
    send.send(counted).await.ok().unwrap();
    client.write_all(GET).await.unwrap();
    let response = answer(&mut client).await;
    assert_eq!(counters.accept_errors.get(), 2);
    assert!(begun.elapsed() >= REST_AFTER_ERROR * 2, "no busy loop");
    assert_eq!(*writes.lock().unwrap(), [response.len()]);
    shutdown.cancel();
    timeout(DEADLINE, task).await.unwrap().unwrap();
}
