package config

import (
	"github.com/glassrunner/glassrunner/internal/job"
)

// Cache is [runners.cache]: where caches are stored for all machines.
type Cache struct {
	Type                   string      `toml:"Type" flag:"cache-type" env:"CACHE_TYPE" allowed:"s3|gcs|azure" doc:"Kind of storage; caches stay local when empty."`
	Path                   string      `toml:"Path" flag:"cache-path" env:"CACHE_PATH" doc:"Prefix of the names of all caches."`
	Shared                 bool        `toml:"Shared" flag:"cache-shared" env:"CACHE_SHARED" default:"false" doc:"Share caches between runners."`
	MaxUploadedArchiveSize int64       `toml:"MaxUploadedArchiveSize" flag:"cache-max_uploaded_archive_size" env:"CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE" default:"0" unit:"bytes" doc:"Largest archive that is uploaded, in bytes; 0 means no limit."`
	S3                     *CacheS3    `toml:"s3" doc:"Storage with the S3 protocol."`
	GCS                    *CacheGCS   `toml:"gcs" doc:"Google Cloud Storage."`
	Azure                  *CacheAzure `toml:"azure" doc:"Azure Blob Storage."`
}

// CacheS3 is [runners.cache.s3].
type CacheS3 struct {
	ServerAddress                       string     `toml:"ServerAddress" flag:"cache-s3-server-address" env:"CACHE_S3_SERVER_ADDRESS" doc:"Host of the S3 server, with a port if needed; Amazon when empty."`
	AccessKey                           job.Secret `toml:"AccessKey" flag:"cache-s3-access-key" env:"CACHE_S3_ACCESS_KEY" doc:"Access key."`
	SecretKey                           job.Secret `toml:"SecretKey" flag:"cache-s3-secret-key" env:"CACHE_S3_SECRET_KEY" doc:"Secret key."`
	SessionToken                        job.Secret `toml:"SessionToken" flag:"cache-s3-session-token" env:"CACHE_S3_SESSION_TOKEN" doc:"Session token of temporary credentials."`
	BucketName                          string     `toml:"BucketName" flag:"cache-s3-bucket-name" env:"CACHE_S3_BUCKET_NAME" doc:"Bucket."`
	BucketLocation                      string     `toml:"BucketLocation" flag:"cache-s3-bucket-location" env:"CACHE_S3_BUCKET_LOCATION" doc:"Region of the bucket; found automatically when empty."`
	Insecure                            bool       `toml:"Insecure" flag:"cache-s3-insecure" env:"CACHE_S3_INSECURE" default:"false" doc:"Connect without TLS."`
	AuthenticationType                  string     `toml:"AuthenticationType" flag:"cache-s3-authentication_type" env:"CACHE_S3_AUTHENTICATION_TYPE" allowed:"access-key|iam" doc:"Where credentials come from; access-key when server and both keys are given."`
	ServerSideEncryption                string     `toml:"ServerSideEncryption" flag:"cache-s3-server-side-encryption" env:"CACHE_S3_SERVER_SIDE_ENCRYPTION" allowed:"S3|AES256|KMS|aws:kms|DSSE-KMS|aws:kms:dsse" doc:"Encryption at rest."`
	ServerSideEncryptionKeyID           string     `toml:"ServerSideEncryptionKeyID" flag:"cache-s3-server-side-encryption-key-id" env:"CACHE_S3_SERVER_SIDE_ENCRYPTION_KEY_ID" doc:"Key of the encryption at rest."`
	DualStack                           *bool      `toml:"DualStack" flag:"cache-s3-dual-stack" env:"CACHE_S3_DUAL_STACK" default:"true" doc:"Use addresses with IPv4 and IPv6."`
	PathStyle                           *bool      `toml:"PathStyle" flag:"cache-s3-path-style" env:"CACHE_S3_PATH_STYLE" doc:"Put the bucket into the path instead of the host; on unless the server is Amazon's or Google's."`
	Accelerate                          bool       `toml:"Accelerate" flag:"cache-s3-accelerate" env:"CACHE_S3_ACCELERATE" default:"false" doc:"Use transfer acceleration."`
	RoleARN                             string     `toml:"RoleARN" flag:"cache-s3-role-arn" env:"CACHE_S3_ROLE_ARN" doc:"Role assumed for downloads and uploads."`
	UploadRoleARN                       string     `toml:"UploadRoleARN" flag:"cache-s3-upload-role-arn" env:"CACHE_S3_UPLOAD_ROLE_ARN" doc:"Role assumed for uploads."`
	AssumeRoleMaxConcurrency            *int       `toml:"AssumeRoleMaxConcurrency" flag:"cache-s3-assume-role-max-concurrency" env:"CACHE_S3_ASSUME_ROLE_MAX_CONCURRENCY" default:"5" doc:"Roles assumed at the same time; -1 means no limit."`
	DisableAssumeRoleCredentialsCaching bool       `toml:"DisableAssumeRoleCredentialsCaching" flag:"cache-s3-disable-assume-role-credentials-caching" env:"CACHE_S3_DISABLE_ASSUME_ROLE_CREDENTIALS_CACHING" default:"false" doc:"Assume the role anew for each transfer."`
}

// CacheGCS is [runners.cache.gcs].
type CacheGCS struct {
	AccessID        string     `toml:"AccessID" flag:"cache-gcs-access-id" env:"CACHE_GCS_ACCESS_ID" doc:"Id of the service account."`
	PrivateKey      job.Secret `toml:"PrivateKey" flag:"cache-gcs-private-key" env:"CACHE_GCS_PRIVATE_KEY" doc:"Private key of the service account."`
	CredentialsFile string     `toml:"CredentialsFile" flag:"cache-gcs-credentials-file" env:"GOOGLE_APPLICATION_CREDENTIALS" doc:"JSON file with the credentials; wins over id and key."`
	BucketName      string     `toml:"BucketName" flag:"cache-gcs-bucket-name" env:"CACHE_GCS_BUCKET_NAME" doc:"Bucket."`
	UniverseDomain  string     `toml:"UniverseDomain" flag:"cache-gcs-universe-domain" env:"CACHE_GCS_UNIVERSE_DOMAIN" doc:"Domain of the cloud."`
}

// CacheAzure is [runners.cache.azure].
type CacheAzure struct {
	AccountName   string     `toml:"AccountName" flag:"cache-azure-account-name" env:"CACHE_AZURE_ACCOUNT_NAME" doc:"Storage account."`
	AccountKey    job.Secret `toml:"AccountKey" flag:"cache-azure-account-key" env:"CACHE_AZURE_ACCOUNT_KEY" doc:"Key of the account; managed identity when empty."`
	ContainerName string     `toml:"ContainerName" flag:"cache-azure-container-name" env:"CACHE_AZURE_CONTAINER_NAME" doc:"Container."`
	StorageDomain string     `toml:"StorageDomain" flag:"cache-azure-storage-domain" env:"CACHE_AZURE_STORAGE_DOMAIN" default:"blob.core.windows.net" doc:"Domain of the storage."`
}
