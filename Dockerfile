# One image for all parts: the chart names the command. `make images` stages the files under
# target/image/<architecture>, with the modes and times that they are to have, and builds this;
# nothing is compiled or fetched here, so it is the same for every architecture and every builder.
FROM scratch
ARG TARGETARCH
COPY target/image/${TARGETARCH}/ /
LABEL org.opencontainers.image.title="caios-credential-agent" \
      org.opencontainers.image.description="CAIOS credential agent: caios-agent, caios-enroll, caios-injector, caios-keeper" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that the kubelet can tell that it is not root.
USER 65532:65532
