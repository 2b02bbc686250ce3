// Command minio is minio-go with the credential chain that restic builds: environment, files, then the container
// endpoint. A chain that finds nothing makes minio-go send the request unsigned, so only a server that refuses
// unsigned requests shows whether this client had credentials.
package main

import (
	"context"
	"io"
	"net/url"
	"os"

	"clients/report"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	report.Run("minio-go", "github.com/minio/minio-go/v7", connect)
}

func connect() (report.Call, error) {
	endpoint, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL_S3"))
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	if report.VirtualHosts() {
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{},
			&credentials.EnvMinio{},
			&credentials.FileAWSCredentials{},
			&credentials.FileMinioClient{},
			&credentials.IAM{},
		}),
		Secure:       endpoint.Scheme == "https",
		Region:       os.Getenv("AWS_REGION"),
		BucketLookup: lookup,
	})
	if err != nil {
		return nil, err
	}
	return func() (int64, error) {
		object, err := client.GetObject(context.Background(), os.Getenv("S3_BUCKET"), os.Getenv("S3_KEY"),
			minio.GetObjectOptions{})
		if err != nil {
			return 0, err
		}
		defer object.Close()
		return io.Copy(io.Discard, object)
	}, nil
}
