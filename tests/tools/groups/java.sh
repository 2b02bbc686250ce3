# The AWS SDK for Java v2: one jar of ours and those it needs, in java/lib.
# shellcheck shell=bash disable=SC2154

fetch_java() {
    need javac default-jdk-headless
    need mvn maven
    provide java "$(javac -version)" fill_java "$clients/java/pom.xml" "$clients/java/src/main/java/"*.java
}

fill_java() {
    local build
    build=$(mktemp -d)
    cp -r "$clients/java/." "$build"
    # Even in batch mode, Maven resets the colours of whatever it writes to.
    if ! mvn --quiet --batch-mode --file "$build/pom.xml" package 2>&1 | sed 's/\x1b\[0m//g'; then
        rm -rf "$build"
        return 1
    fi
    mv "$build/target/lib" "$1/lib"
    rm -rf "$build"
}

versions_java() {
    row java "$(java -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')"
    row aws-sdk-java-v2 "$(basename "$tools"/java/lib/s3-*.jar .jar | sed 's/^s3-//')"
}
