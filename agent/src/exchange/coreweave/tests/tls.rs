//! Whom the agent trusts, and what it sends to nobody else.

use super::*;

fn tls_exchange(address: SocketAddr, ca: &CaFile) -> CoreWeave {
    at(
        &format!("https://localhost:{}", address.port()),
        |settings| {
            settings.ca_file = Some(ca.0.clone());
            settings.connect_timeout = Duration::from_secs(1);
        },
    )
}

#[tokio::test]
async fn a_ca_from_the_file_is_trusted_and_its_rotation_needs_no_restart() {
    let (old, ca) = certificate("rotation");
    let server = ScriptedServer::start([ok()], Some(old)).await;
    let exchange = tls_exchange(server.address, &ca);
    assert_eq!(run(&exchange).await.unwrap().body(), RENDERED);

    let (new, new_ca) = certificate("rotation-new");
    let server = ScriptedServer::start([ok()], Some(new)).await;
    let exchange = tls_exchange(server.address, &ca);
    assert_unavailable(run(&exchange).await, "--ca-file");
    std::fs::write(&ca.0, "half a certif").unwrap();
    assert_unavailable(run(&exchange).await, "--ca-file");
    std::fs::rename(&new_ca.0, &ca.0).unwrap();
    run(&exchange).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_ca_that_has_left_the_file_is_trusted_no_more() {
    let (old, ca) = certificate("leaves");
    let (_, other_ca) = certificate("leaves-other");
    let server = ScriptedServer::start([ok()], Some(old)).await;
    let mut exchange = tls_exchange(server.address, &ca);
    exchange.connector.check_always();
    std::fs::rename(&other_ca.0, &ca.0).unwrap();
    assert_unavailable(run(&exchange).await, "--ca-file");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn broken_tls_is_no_connection_and_sends_no_token() {
    let (_acceptor, ca) = certificate("plain");
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exchange = tls_exchange(plain.local_addr().unwrap(), &ca);
    // Accepted by the kernel, and silent: the handshake runs out of the connect time-out.
    assert_unavailable(run(&exchange).await, "no connection");

    let garbage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exchange = tls_exchange(garbage.local_addr().unwrap(), &ca);
    let peer = async {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = garbage.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let (result, _stream) = tokio::join!(run(&exchange), peer);
    assert_unavailable(result, "--ca-file");
}
