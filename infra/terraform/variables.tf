variable "name" {
  description = "Before the names of everything."
  type        = string
  default     = "stenopool"
}

variable "vpc_id" {
  description = "Where the farm is."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, two at least, of the farm's servers."
  type        = list(string)
}

variable "farm_security_group_id" {
  description = "Of the nodes that the farm's processes run on: nobody else reaches its servers."
  type        = string
}

variable "oidc_provider_arn" {
  description = "Of the cluster, so that its pods can be this farm in S3 without a password."
  type        = string
}

variable "oidc_issuer" {
  description = "Of the cluster, without https://."
  type        = string
}

variable "database_class" {
  description = "A claim and its end take a millisecond; see bench/farm.md for what one Postgres bears."
  type        = string
  default     = "db.m7g.large"
}

variable "backup_days" {
  description = "After so many days what was deleted is gone from the backups, too (docs/retention.md)."
  type        = number
  default     = 14
}
