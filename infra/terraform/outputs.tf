output "store" {
  description = "STENOPOOL_STORE"
  value       = "s3://${aws_s3_bucket.objects.bucket}/farm"
}

output "database_endpoint" {
  description = "Host and port; the password is in the secret below."
  value       = aws_db_instance.ledger.endpoint
}

output "database_secret_arn" {
  description = "Of Secrets Manager, with username and password: for database-url of the secret stenopool."
  value       = aws_db_instance.ledger.master_user_secret[0].secret_arn
}

output "broker_secret_arn" {
  description = "Of Secrets Manager: broker-url of the secret stenopool."
  value       = aws_secretsmanager_secret.broker.arn
}

output "role_arn" {
  description = "For the annotation eks.amazonaws.com/role-arn of the account stenopool; then s3-credentials is not needed."
  value       = aws_iam_role.farm.arn
}
