# The servers of a farm on AWS, to go with infra/kubernetes: Postgres, Redis and a bucket, reached by the farm alone, and
# encrypted. The cluster and its GPU nodes are yours.

locals {
  tags = { "app.kubernetes.io/part-of" = "stenopool" }
}

# The bucket

resource "aws_s3_bucket" "objects" {
  bucket_prefix = "${var.name}-"
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "objects" {
  bucket                  = aws_s3_bucket.objects.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "objects" {
  bucket = aws_s3_bucket.objects.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

# What was put by mistake or removed by one can be had again, for as long as the database's backups go back. A deletion
# that was asked for removes all versions (docs/retention.md).
resource "aws_s3_bucket_versioning" "objects" {
  bucket = aws_s3_bucket.objects.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "objects" {
  bucket     = aws_s3_bucket.objects.id
  depends_on = [aws_s3_bucket_versioning.objects]
  rule {
    id     = "old"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.backup_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

# Who may use it: pods of the account "stenopool" in the namespace "stenopool"

data "aws_iam_policy_document" "pods" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:sub"
      values   = ["system:serviceaccount:stenopool:stenopool"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "objects" {
  statement {
    actions   = ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.objects.arn]
  }
  statement {
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:AbortMultipartUpload",
      "s3:ListMultipartUploadParts",
    ]
    resources = ["${aws_s3_bucket.objects.arn}/farm/*"]
  }
}

resource "aws_iam_role" "farm" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.pods.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "objects" {
  name   = "objects"
  role   = aws_iam_role.farm.id
  policy = data.aws_iam_policy_document.objects.json
}

# Postgres

resource "aws_db_subnet_group" "ledger" {
  name_prefix = "${var.name}-"
  subnet_ids  = var.subnet_ids
  tags        = local.tags
}

resource "aws_security_group" "servers" {
  name_prefix = "${var.name}-servers-"
  description = "Postgres and Redis of the farm, for its processes alone"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "servers" {
  for_each                     = { postgres = 5432, redis = 6379 }
  security_group_id            = aws_security_group.servers.id
  referenced_security_group_id = var.farm_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  description                  = each.key
}

resource "aws_db_instance" "ledger" {
  identifier_prefix            = "${var.name}-"
  engine                       = "postgres"
  engine_version               = "17"
  instance_class               = var.database_class
  allocated_storage            = 100
  max_allocated_storage        = 1000
  storage_type                 = "gp3"
  storage_encrypted            = true
  db_name                      = "stenopool"
  username                     = "stenopool"
  manage_master_user_password  = true # in Secrets Manager, changed by AWS; never in Terraform's state
  db_subnet_group_name         = aws_db_subnet_group.ledger.name
  vpc_security_group_ids       = [aws_security_group.servers.id]
  multi_az                     = true
  backup_retention_period      = var.backup_days
  deletion_protection          = true
  skip_final_snapshot          = false
  final_snapshot_identifier    = "${var.name}-last"
  performance_insights_enabled = true
  auto_minor_version_upgrade   = true
  copy_tags_to_snapshot        = true
  tags                         = local.tags
}

# Redis: hints only, so that losing it loses nothing; full, it refuses instead of forgetting.

resource "aws_elasticache_subnet_group" "hints" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_parameter_group" "hints" {
  name   = var.name
  family = "redis7"
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "random_password" "redis" {
  length  = 48
  special = false
}

resource "aws_elasticache_replication_group" "hints" {
  replication_group_id       = var.name
  description                = "Hints of the farm"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = "cache.t4g.small"
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  parameter_group_name       = aws_elasticache_parameter_group.hints.name
  subnet_group_name          = aws_elasticache_subnet_group.hints.name
  security_group_ids         = [aws_security_group.servers.id]
  transit_encryption_enabled = true
  at_rest_encryption_enabled = true
  auth_token                 = random_password.redis.result
  tags                       = local.tags
}

# What the pods are told: broker-url is ready for the secret "stenopool".

resource "aws_secretsmanager_secret" "broker" {
  name_prefix = "${var.name}-broker-url-"
  tags        = local.tags
}

resource "aws_secretsmanager_secret_version" "broker" {
  secret_id     = aws_secretsmanager_secret.broker.id
  secret_string = "rediss://:${random_password.redis.result}@${aws_elasticache_replication_group.hints.primary_endpoint_address}:6379/0?ssl_cert_reqs=required"
}
