// Command sdkv2 is the AWS SDK for Go v2 as a Pod would use it: default credential chain, one GET.
package main

import (
	"context"
	"io"
	"os"

	"clients/report"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	report.Run("aws-sdk-go-v2", "github.com/aws/aws-sdk-go-v2", connect)
}

func connect() (report.Call, error) {
	ctx := context.Background()
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(loaded, func(options *s3.Options) {
		options.UsePathStyle = !report.VirtualHosts()
	})
	return func() (int64, error) {
		answer, err := client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: aws.String(os.Getenv("S3_BUCKET")),
			Key:    aws.String(os.Getenv("S3_KEY")),
		})
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		return io.Copy(io.Discard, answer.Body)
	}, nil
}
