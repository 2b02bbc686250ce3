//! Interfaces of the test's namespaces.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::namespace::Namespace;

/// Sets the interface `name` of the caller's namespace up.
///
/// # Errors
/// When the kernel refuses.
pub async fn up(name: &str) -> anyhow::Result<()> {
    let link = netlink()?;
    let index = index(name)?;
    link.link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .with_context(|| format!("failed to set `{name}` up"))
}

/// Adds an address, of a network of its own, to the interface `name` of the caller's namespace.
///
/// # Errors
/// When the kernel refuses.
pub async fn add_address(name: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let link = netlink()?;
    link.address()
        .add(index(name)?, address.into(), 32)
        .execute()
        .await
        .with_context(|| format!("failed to add {address} to `{name}`"))
}

/// Connects `pod` to `node` as a CNI plugin does: a veth pair, `name` on the node's side with the
/// address `gateway`, `eth0` with `address` in the Pod.
///
/// # Errors
/// When the kernel refuses.
pub fn connect(
    node: &Namespace,
    pod: &Namespace,
    name: &str,
    gateway: Ipv4Addr,
    address: Ipv4Addr,
) -> anyhow::Result<()> {
    let target = pod.network();
    let (near, far) = (name.to_owned(), format!("{name}p"));
    let peer = far.clone();
    node.run(async move {
        let link = netlink()?;
        link.link()
            .add(LinkVeth::new(&near, &peer).build())
            .execute()
            .await?;
        let moved = index(&peer)?;
        let set = LinkUnspec::new_with_index(moved)
            .setns_by_fd(target)
            .build();
        link.link().set(set).execute().await?;
        let near_index = index(&near)?;
        link.address()
            .add(near_index, gateway.into(), 30)
            .execute()
            .await?;
        up(&near).await
    })
    .context("failed to make the node's side of the veth pair")?;
    pod.run(async move {
        let link = netlink()?;
        let moved = index(&far)?;
        let set = LinkUnspec::new_with_index(moved)
            .name("eth0".to_owned())
            .build();
        link.link().set(set).execute().await?;
        link.address()
            .add(moved, address.into(), 30)
            .execute()
            .await?;
        up("eth0").await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .build();
        link.route().add(route).execute().await?;
        anyhow::Ok(())
    })
    .context("failed to make the Pod's side of the veth pair")
}

/// Deletes an interface of the caller's namespace, as a CNI plugin does when a Pod ends.
///
/// # Errors
/// When the kernel refuses.
pub async fn delete(name: &str) -> anyhow::Result<()> {
    let link = netlink()?;
    let index = index(name)?;
    link.link()
        .del(index)
        .execute()
        .await
        .with_context(|| format!("failed to delete `{name}`"))
}

fn netlink() -> anyhow::Result<Handle> {
    let (connection, handle, _) =
        rtnetlink::new_connection().context("failed to open a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

fn index(name: &str) -> anyhow::Result<u32> {
    // Any socket answers for the namespace that it was made in.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    rustix::net::netdevice::name_to_index(&socket, name)
        .with_context(|| format!("no interface `{name}`"))
}
