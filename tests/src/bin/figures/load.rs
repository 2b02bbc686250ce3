//! The client that makes the load: HTTP/1.1 written by hand, so that it costs next to nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::namespace::Namespace;
use tests::pod::Pod;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests per second, then the latency in microseconds: p50, p99, p99.9.
pub(crate) type Figures = [f64; 4];

/// The median of each figure by itself, of an odd number of rounds.
pub(crate) fn median(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = rounds
            .iter()
            .filter_map(|of| of.get(figure))
            .copied()
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

/// The seconds that `per_mille` of the sorted samples do not exceed.
pub(crate) fn percentile(sorted: &[Duration], per_mille: usize) -> f64 {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    let sample = sorted.get(rank.saturating_sub(1));
    sample.map_or(f64::NAN, Duration::as_secs_f64)
}

/// Sends `request` for `time` to the listener in `place`, from inside. Each connection has one
/// request on it at a time; one that is not kept alive is made anew for each, within the latency.
/// Every answer is read whole and must be a 200.
pub(crate) fn run(
    place: &Namespace,
    request: &str,
    connections: usize,
    kept: bool,
    time: Duration,
) -> anyhow::Result<Figures> {
    let request: Arc<str> = request.into();
    let mut samples = place.run(async move {
        let end = Instant::now() + time;
        let mut running: JoinSet<_> = (0..connections)
            .map(|_| client(Arc::clone(&request), kept, end))
            .collect();
        let mut samples = Vec::new();
        while let Some(ended) = running.join_next().await {
            samples.extend(ended??);
        }
        anyhow::Ok(samples)
    })?;
    samples.sort_unstable();
    let count = u32::try_from(samples.len())?;
    let [p50, p99, p999] = [500, 990, 999].map(|rank| percentile(&samples, rank) * 1e6);
    Ok([f64::from(count) / time.as_secs_f64(), p50, p99, p999])
}

/// The latencies of one connection after the other.
async fn client(request: Arc<str>, kept: bool, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut samples = Vec::new();
    let mut connection = None;
    let mut answer = Vec::with_capacity(4096);
    let mut started = Instant::now();
    while started < end {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect(Pod::listener()).await?,
        };
        stream.write_all(request.as_bytes()).await?;
        read(&mut stream, &mut answer).await?;
        let ended = Instant::now();
        samples.push(ended - started);
        started = ended;
        connection = kept.then_some(stream);
    }
    Ok(samples)
}

/// Reads one answer, whose length its head tells.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let mut length = None;
    while length.is_none_or(|length| answer.len() < length) {
        let read = stream.read_buf(answer).await?;
        ensure!(read > 0, "the server closed the connection");
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let (None, Some(head)) = (length, head) {
            let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default());
            ensure!(text.starts_with("HTTP/1.1 200 "), "an answer began {text}");
            let mut lines = text.lines();
            let body = lines.find_map(|line| line.strip_prefix("content-length: "));
            let body: usize = body.context("an answer has no length")?.parse()?;
            length = Some(head + 4 + body);
        }
    }
    Ok(())
}
